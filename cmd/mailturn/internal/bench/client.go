package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

const commandLimit = time.Minute

// A client is one connection, as cheap as possible.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	tags int
}

// connect opens a connection and reads the greeting.
func connect(ctx context.Context, s *server, roots *x509.CertPool) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(commandLimit))
	if s.tls {
		tlsConn := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
		if err := tlsConn.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = tlsConn
	}
	c := &client{conn: conn, r: bufio.NewReaderSize(conn, 4<<10)}
	if _, err := c.r.ReadSlice('\n'); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	return c, nil
}

// login opens a connection and logs in.
func login(ctx context.Context, s *server, roots *x509.CertPool, user string) (*client, error) {
	c, err := connect(ctx, s, roots)
	if err != nil {
		return nil, err
	}
	if _, err := c.command("LOGIN " + user + " " + dovecot.Password); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

// command sends a command and reads until its OK. It returns the number of bytes in literals.
func (c *client) command(text string) (literals int64, err error) {
	c.tags++
	tag := "t" + strconv.Itoa(c.tags)
	c.conn.SetDeadline(time.Now().Add(commandLimit))
	if _, err := io.WriteString(c.conn, tag+" "+text+"\r\n"); err != nil {
		return 0, err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return literals, fmt.Errorf("%.20s: %w", text, err)
		}
		if rest, ok := bytes.CutPrefix(line, []byte(tag+" ")); ok {
			if !bytes.HasPrefix(rest, []byte("OK")) {
				return literals, fmt.Errorf("%.20s: %s", text, line)
			}
			return literals, nil
		}
		begin, announced := bytes.CutSuffix(line, []byte("}\r\n"))
		if !announced {
			continue
		}
		size, err := strconv.ParseInt(string(begin[bytes.LastIndexByte(begin, '{')+1:]), 10, 64)
		if err != nil {
			return literals, err
		}
		n, err := io.CopyN(io.Discard, c.r, size)
		literals += n
		if err != nil {
			return literals, err
		}
	}
}

// append appends a message of size bytes to INBOX.
func (c *client) append(size int) error {
	line := bytes.Repeat([]byte("x"), 76)
	line = append(line, '\r', '\n')
	message := append([]byte("Subject: big\r\n\r\n"), bytes.Repeat(line, size/len(line))...)
	_, err := c.command(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(message), message))
	return err
}
