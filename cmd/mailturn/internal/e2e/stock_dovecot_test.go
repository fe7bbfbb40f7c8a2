package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// What Dovecot is configured with to be told of clients, by client_address. Both versions have the same settings.
var told = map[string]dovecot.Options{
	"none":   {},
	"id":     {Settings: "login_trusted_networks = 127.0.0.1"},
	"proxy":  {Settings: "haproxy_trusted_networks = 127.0.0.1", Listener: "haproxy = yes"},
	"proxy2": {Settings: "haproxy_trusted_networks = 127.0.0.1", Listener: "haproxy = yes"},
}

// A mailClient logs in from its own address.
type mailClient struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialFrom connects to the proxy from an address of loopback: with TLS from the first byte, or with STARTTLS.
func (p *proxy) dialFrom(ip string, starttls bool) (*mailClient, error) {
	addr := p.tlsAddr()
	if starttls {
		addr = p.addr()
	}
	dialer := net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(startLimit))
	c := &mailClient{conn, bufio.NewReader(conn)}
	if starttls {
		if _, err := c.r.ReadString('\n'); err != nil {
			return c, err
		}
		if answer, err := c.command("s STARTTLS"); err != nil || !strings.HasPrefix(answer, "s OK") {
			return c, fmt.Errorf("STARTTLS: %q, %v", answer, err)
		}
	}
	encrypted := tls.Client(conn, p.tls)
	c.conn, c.r = encrypted, bufio.NewReader(encrypted)
	if !starttls {
		_, err = c.r.ReadString('\n')
	}
	return c, err
}

// command sends a command, and returns the tagged answer, or the BYE in its place.
func (c *mailClient) command(line string) (string, error) {
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", line); err != nil {
		return "", err
	}
	tag, _, _ := strings.Cut(line, " ")
	return c.answer(tag)
}

// answer reads up to the tagged answer, or the BYE in its place.
func (c *mailClient) answer(tag string) (string, error) {
	for {
		answer, err := c.r.ReadString('\n')
		if err != nil || strings.HasPrefix(answer, tag+" ") || strings.HasPrefix(answer, "* BYE") {
			return answer, err
		}
	}
}

// loginFrom logs in from an address, and returns the answer.
func (p *proxy) loginFrom(ip string, starttls bool, user, password string) (string, error) {
	c, err := p.dialFrom(ip, starttls)
	if err != nil {
		return "", err
	}
	defer c.conn.Close()
	return c.command("l LOGIN " + user + " " + password)
}

// TestStockDovecot logs in through mailturn to a Dovecot whose settings for TLS and logins are those that it is installed with, or
// stricter. It learns the client's address, and by PROXY version 2 that TLS is in use, which version 1 cannot express: then it
// refuses passwords, as documented.
func TestStockDovecot(t *testing.T) {
	t.Parallel()
	eachDovecot(t, testStockDovecot)
}

func testStockDovecot(t *testing.T, version string, root *chroot.Root) {
	const from = "127.0.0.2"
	for _, ssl := range []string{"yes", "required"} {
		for how, options := range told {
			t.Run("ssl="+ssl+" client_address="+how, func(t *testing.T) {
				t.Parallel()
				options.Root, options.SSL = root, ssl
				d := startDovecot(t, options)
				p := startProxyWith(t, d.Addr, how)
				refused := how == "proxy" && (version == "2.3" || ssl == "required")
				for _, starttls := range []bool{false, true} {
					c, err := p.dialFrom(from, starttls)
					if err != nil {
						t.Fatal(err)
					}
					answer, err := c.command("l LOGIN alice " + dovecot.Password)
					if err != nil || strings.HasPrefix(answer, "l OK") == refused {
						t.Errorf("STARTTLS %v: LOGIN is answered %q, %v; refused: want %v", starttls, answer, err, refused)
					}
					if answer, err := c.command(`m GETMETADATA "" ` + turnEntry); err != nil || strings.HasPrefix(answer, "m OK") == refused {
						t.Errorf("STARTTLS %v: GETMETADATA is answered %q, %v; refused: want %v", starttls, answer, err, refused)
					}
					c.conn.Close()
				}
				switch {
				case refused:
				case how == "none":
					waitForLog(t, d, "rip=127.0.0.1,")
				default:
					waitForLog(t, d, "rip="+from+",")
				}
			})
		}
	}
}

// TestGuessing guesses passwords through mailturn while another user logs in. Dovecot delays its answers to an address that sends
// wrong passwords more and more. With client_address that affects only the attacker, without it everybody.
func TestGuessing(t *testing.T) {
	t.Parallel()
	eachDovecot(t, testGuessing)
}

func testGuessing(t *testing.T, _ string, root *chroot.Root) {
	const attacker, user = "127.0.0.3", "127.0.0.4"
	for how, late := range map[string]bool{"none": true, "id": false, "proxy2": false} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			options := told[how]
			options.Root, options.SSL = root, "yes"
			p := startProxyWith(t, startDovecot(t, options).Addr, how)
			var guesses sync.WaitGroup
			for i := range 4 {
				guesses.Go(func() {
					answer, err := p.loginFrom(attacker, false, "victim", fmt.Sprint("wrong", i))
					if err != nil || !strings.HasPrefix(answer, "l NO") {
						t.Errorf("a wrong password is answered %q, %v", answer, err)
					}
				})
			}
			guesses.Wait()
			began := time.Now()
			answer, err := p.loginFrom(user, false, "alice", dovecot.Password)
			took := time.Since(began)
			if err != nil || !strings.HasPrefix(answer, "l OK") {
				t.Errorf("LOGIN is answered %q, %v", answer, err)
			}
			// The shortest delay that Dovecot knows is 2 s, and it is doubled with each wrong password.
			if (took > 3*time.Second) != late {
				t.Errorf("LOGIN took %v; late: want %v", took, late)
			}
		})
	}
}
