package provision

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// answerPatience is the maximum time for one answer of a server.
const answerPatience = 5 * time.Second

// System returns the machine on which this program runs. mailturn is the path of this program.
func System(mailturn string, lookup func(ctx context.Context, name string) ([]netip.Addr, error)) *Machine {
	return &Machine{
		Run: runProgram, Lookup: lookup, Addresses: peer.LocalAddrs, Greeting: greetingOf, Allocation: allocationOf, Store: storeSockets,
		Now: time.Now, Mailturn: mailturn,
	}
}

// maxOutput limits how much of a program's output is kept, in bytes.
const maxOutput = 1 << 20

// runProgram runs a program of the system, in a process group of its own, so that an interrupt from the keyboard does not reach it.
func runProgram(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if !strings.Contains(program, "/") { // sbin is not in everybody's PATH
		for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
			if _, err := os.Stat(dir + program); err == nil && cmd.Err != nil {
				cmd.Path, cmd.Err = dir+program, nil
			}
		}
	}
	output := &limitedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	err := cmd.Run()
	return output.String(), err
}

// A limitedBuffer keeps the first maxOutput bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, maxOutput-b.Len()))])
	return len(p), nil
}

// greetingOf implements Machine.Greeting for this machine.
func greetingOf(ctx context.Context, address string, overTLS bool, serverName string) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if overTLS {
		// Do not verify the issuer: this machine may not trust a private authority, and probe checks whether clients do.
		secured := tls.Client(conn, &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
		if err := secured.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS with %s: %w", address, err)
		}
		if serverName != "" {
			if err := secured.ConnectionState().PeerCertificates[0].VerifyHostname(serverName); err != nil {
				return fmt.Errorf("TLS with %s: %w", address, err)
			}
		}
		conn = secured
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s does not greet: %w", address, err)
	}
	if !strings.HasPrefix(line, "* OK") {
		return fmt.Errorf("%s greets with %q", address, strings.TrimSpace(line))
	}
	return nil
}

// allocationOf implements Machine.Allocation for this machine.
func allocationOf(ctx context.Context, address netip.AddrPort, secretFile string) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	secret, _, err := bounded.ReadFile(secretFile, bounded.MaxFile)
	if err != nil {
		return err
	}
	issued := credential.Issuer{Secret: credential.NewSecret(bytes.TrimSpace(secret)), TTL: time.Hour}.Issue(time.Now())
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address.String())
	if err != nil {
		return err
	}
	client := turnclient.New(turnclient.Config{Conn: conn, Username: issued.Username, Password: issued.Password})
	defer client.Close()
	if _, err := client.Challenge(ctx); err != nil {
		return fmt.Errorf("relay at %v: %w", address, err)
	}
	if _, err := client.Allocate(ctx); err != nil {
		return fmt.Errorf("relay at %v: %w", address, err)
	}
	_, err = client.Refresh(ctx, 0)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // there is an allocation, which will expire
	}
	return err
}
