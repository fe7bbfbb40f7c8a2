package imap

import (
	"crypto/tls"
	"sync"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/shared"
)

// recordSize is what a TLS record holds at most (RFC 8446 section 5.1).
const recordSize = 16 * 1024

// A tlsConn is the client's TLS connection. It sends several records in one write, where crypto/tls needs a write for each record:
// most of the cost of passing a large message is the system's work for each write.
type tlsConn struct {
	*tls.Conn
	records *recordConn
	secured *shared.Secured // what Read reads from if another one has performed the handshake; otherwise nil
}

func newTLSConn(raw *patient.Conn, config *tls.Config) *tlsConn {
	records := &recordConn{Conn: raw}
	return &tlsConn{Conn: tls.Server(records, config), records: records}
}

// adoptTLS returns a tlsConn for a connection over raw whose handshake a shared port has performed.
func adoptTLS(raw *patient.Conn, secured *shared.Secured) *tlsConn {
	records := &recordConn{Conn: raw}
	secured.Over(records)
	return &tlsConn{Conn: secured.Conn, records: records, secured: secured}
}

// Read implements net.Conn.
func (c *tlsConn) Read(p []byte) (int, error) {
	if c.secured != nil {
		return c.secured.Read(p)
	}
	return c.Conn.Read(p)
}

func (c *tlsConn) Write(p []byte) (int, error) {
	if len(p) <= recordSize {
		return c.Conn.Write(p)
	}
	c.records.gather()
	n, err := c.Conn.Write(p)
	if flushErr := c.records.flush(); err == nil {
		err = flushErr
	}
	return n, err
}

// A recordConn is the connection to which crypto/tls writes its records.
type recordConn struct {
	*patient.Conn

	// mu guards gathered, and the order of writes. The goroutine that reads may also write what TLS itself sends, such as an alert.
	mu       sync.Mutex
	gathered *[]byte // records to be written; nil except between gather and flush
}

// gatherBuffers holds the buffers of recordConn.gathered between uses.
var gatherBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, bufferSize+bufferSize/64) // records are slightly longer than their contents
	return &b
}}

func (c *recordConn) gather() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathered = gatherBuffers.Get().(*[]byte)
}

func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gathered != nil {
		*c.gathered = append(*c.gathered, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// flush writes the gathered records.
func (c *recordConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(*c.gathered)
	*c.gathered = (*c.gathered)[:0]
	gatherBuffers.Put(c.gathered)
	c.gathered = nil
	return err
}
