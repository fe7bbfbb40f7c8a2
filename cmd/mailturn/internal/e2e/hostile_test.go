package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// maxResident is what the process may hold after the attacks. The race detector multiplies memory; without it a server
// that has seen them holds a tenth of this.
const maxResident = 400 << 20

// TestHostileInput sends hostile input to every port, and checks that the server continues to serve others in bounded memory.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	stateDir, p := t.TempDir(), freePorts(t)
	s := start(t, stateDir, "--config", configure(t, p, allowLoopback, ""))
	imaps := func(t *testing.T) net.Conn {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.imaps), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	plain := func(t *testing.T, port int) net.Conn {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}

	t.Run("attacks", func(t *testing.T) {
		t.Run("line of 1 MB before login", func(t *testing.T) {
			t.Parallel()
			conn := imaps(t)
			go conn.Write(append(bytes.Repeat([]byte("x"), 1<<20), "\r\n"...))
			wantLine(t, conn, "* BAD ")
		})
		t.Run("literal of 4 GB before login", func(t *testing.T) {
			t.Parallel()
			conn := imaps(t)
			go func() {
				io.WriteString(conn, "a LOGIN {4294967296+}\r\n")
				conn.Write(make([]byte, 1<<20))
			}()
			wantLine(t, conn, "a BAD ")
		})
		t.Run("literal of 4 GB in GETMETADATA", func(t *testing.T) {
			t.Parallel()
			conn := imaps(t)
			io.WriteString(conn, "a LOGIN alice@example.org wonderland\r\nb GETMETADATA \"\" {4294967295+}\r\n")
			wantLine(t, conn, "* BYE ")
		})
		t.Run("10,000 pipelined commands", func(t *testing.T) {
			t.Parallel()
			conn := imaps(t)
			go func() {
				io.WriteString(conn, "a LOGIN alice@example.org wonderland\r\n")
				for i := range 10_000 {
					fmt.Fprintf(conn, "t%d GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n", i)
				}
			}()
			wantLine(t, conn, "t9999 OK ")
		})
		t.Run("a byte at a time", func(t *testing.T) {
			t.Parallel()
			conn := imaps(t)
			go func() {
				for _, b := range []byte("a LOGIN alice@example.org wonderland\r\nb GETMETADATA \"\" {30+}\r\n/shared/vendor/deltachat/turns\r\n") {
					conn.Write([]byte{b})
				}
			}()
			wantLine(t, conn, "b OK ")
		})
		t.Run("no TLS on the TLS port", func(t *testing.T) {
			t.Parallel()
			conn := plain(t, p.imaps)
			io.WriteString(conn, "a LOGIN alice@example.org wonderland\r\n")
			wantEnd(t, conn)
		})
		t.Run("TLS on the plain port", func(t *testing.T) {
			t.Parallel()
			conn := plain(t, p.imap)
			client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			if err := client.Handshake(); err == nil {
				t.Error("a TLS handshake succeeded on the plain port")
			}
		})
		t.Run("HTTP on the TURN port", func(t *testing.T) {
			t.Parallel()
			conn := plain(t, p.turn)
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			wantEnd(t, conn)
		})
		t.Run("length that wraps in 16 bits", func(t *testing.T) {
			t.Parallel()
			conn := plain(t, p.turn)
			conn.Write([]byte{0x40, 0x00, 0xff, 0xfc, 0, 0, 0, 0, 0})
			wantEnd(t, conn)
		})
		t.Run("noise on every port", func(t *testing.T) {
			t.Parallel()
			random := rand.NewChaCha8([32]byte{})
			noise := make([]byte, 65507)
			udp, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", p.turn))
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			for size := 0; size <= len(noise); size += 1 + size/16 {
				random.Read(noise[:size])
				udp.Write(noise[:size])
				if size > 0 {
					noise[0] &= 0x3f // the two top bits of STUN
					udp.Write(noise[:size])
				}
			}
			udp.Write(noise)
			for _, port := range []int{p.imap, p.imaps, p.turn, p.turns} {
				conn := plain(t, port)
				for conn.SetWriteDeadline(time.Now().Add(2 * time.Second)); ; {
					random.Read(noise)
					if _, err := conn.Write(noise); err != nil {
						break
					}
				}
			}
		})
	})

	resident := residentSize(t, s.cmd.Process.Pid)
	t.Logf("resident after the attacks: %d MiB", resident>>20)
	if resident > maxResident {
		t.Errorf("the process holds %d MiB after the attacks, more than %d MiB", resident>>20, maxResident>>20)
	}
	credential, _ := discover(t, p, stateDir, "bob@example.org", "builder")
	port, _ := echoPeer(t)
	for _, transport := range transports {
		t.Run("relay afterwards over "+transport.name, func(t *testing.T) {
			t.Parallel()
			options := append([]string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-c", "-n", "5", "-m", "1"}, transport.options...)
			uclient(t, credential, transport.port(p), options...).wantAll(t, 5)
		})
	}
}

// wantEnd checks that the server closes the connection, whatever it sends before.
func wantEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was not ended")
	}
}

// wantLine reads lines until one starts with prefix.
func wantLine(t *testing.T, conn net.Conn, prefix string) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	r := bufio.NewReader(conn)
	var last string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("no line %q before the end (%v); the last line was %q", prefix, err, last)
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
		last = line
	}
}

// residentSize is the resident set size of a process in bytes.
func residentSize(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	kilobytes, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
