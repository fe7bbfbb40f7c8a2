package imapext_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/mailturn/mailturn/imapext"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// entries is a source of one entry.
type entries struct{}

func (entries) Entries(s imapext.Session) []metadata.Entry {
	return []metadata.Entry{{
		Name:  "/shared/vendor/deltachat/turn",
		Value: metadata.String("turn.example.org:3478:1758650868:nkfvRIGUcx0N/jq/StNLPajpLZE="),
	}}
}

// errDone ends pumpClient without a connection error.
var errDone = errors.New("session closed by the filter")

// pumpClient moves the client's bytes until one of the connections fails. gone is closed when the backend's pump has ended.
func pumpClient(f *imapext.Filter, client, backend net.Conn, gone <-chan struct{}) error {
	buf := make([]byte, 4096)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return err
		}
		p := buf[:n]
		for {
			n, event := f.FromClient(p)
			p = p[n:]
			if err := f.WriteBackend(backend); err != nil {
				return err
			}
			if err := f.WriteClient(client); err != nil {
				return err
			}
			switch event {
			case imapext.Continue:
			case imapext.Wait:
				select {
				case <-f.Resume():
				case <-gone:
					return errDone
				}
				continue
			default:
				return errDone // StartTLS is not offered here
			}
			if len(p) == 0 {
				break
			}
		}
	}
}

// pumpBackend moves the backend's bytes until one of the connections fails.
func pumpBackend(f *imapext.Filter, client, backend net.Conn) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := backend.Read(buf)
		if err != nil {
			return err
		}
		if err := f.FromBackend(buf[:n]); err != nil {
			return err
		}
		if err := f.WriteClient(client); err != nil {
			return err
		}
	}
}

// serve filters one connection until either side closes it.
func serve(f *imapext.Filter, client, backend net.Conn) {
	var pumps sync.WaitGroup
	gone := make(chan struct{})
	pumps.Go(func() {
		pumpClient(f, client, backend, gone)
		backend.Close()
	})
	pumps.Go(func() {
		defer close(gone)
		pumpBackend(f, client, backend)
		client.Close()
	})
	pumps.Wait()
}

// answerAll is a backend that accepts every login and completes every command.
func answerAll(conn net.Conn) {
	defer conn.Close()
	io.WriteString(conn, "* OK [CAPABILITY IMAP4rev1] ready\r\n")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		tag, command, _ := strings.Cut(lines.Text(), " ")
		if strings.HasPrefix(command, "LOGIN") {
			fmt.Fprintf(conn, "%s OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n", tag)
		} else {
			fmt.Fprintf(conn, "%s OK %s completed\r\n", tag, command)
		}
	}
}

// A filter between two connections. The backend has no METADATA and never hears of it.
func Example() {
	mailturn, backend := net.Pipe()
	go answerAll(backend)
	client, server := net.Pipe()
	go serve(imapext.New(imapext.Options{Entries: entries{}, TLS: true}), server, mailturn)

	answers := bufio.NewScanner(client)
	expect := func(lines int) {
		for range lines {
			answers.Scan()
			fmt.Println("S:", answers.Text())
		}
	}
	expect(1)
	for _, line := range []string{"a LOGIN alice secret", `b GETMETADATA "" /shared/vendor/deltachat/turn`, "c NOOP"} {
		fmt.Println("C:", line)
		fmt.Fprintf(client, "%s\r\n", line)
		if strings.Contains(line, "METADATA") {
			expect(1)
		}
		expect(1)
	}
	client.Close()
	// Output:
	// S: * OK [CAPABILITY IMAP4rev1] ready
	// C: a LOGIN alice secret
	// S: a OK [CAPABILITY IMAP4rev1 IDLE METADATA] Logged in
	// C: b GETMETADATA "" /shared/vendor/deltachat/turn
	// S: * METADATA "" (/shared/vendor/deltachat/turn "turn.example.org:3478:1758650868:nkfvRIGUcx0N/jq/StNLPajpLZE=")
	// S: b OK GETMETADATA completed
	// C: c NOOP
	// S: c OK NOOP completed
}
