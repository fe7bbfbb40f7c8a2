package shared

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/framework/acme"
)

const (
	// maxHello is how many bytes are read to understand what a connection begins with. The limit is that of nginx.
	maxHello = 16 << 10
	// largeHello is how many bytes any connection may have of them: see pending.enlarge. Hellos have 200 to 2,000 bytes.
	largeHello = 4 << 10
	// firstRead is the size of the first buffer.
	firstRead = 2 << 10
)

// hello is what is known of a connection before anything is decrypted.
type hello struct {
	read []byte // from the connection
	tls  bool   // read has a whole ClientHello, and the rest is from it
	// name is the server name in lower case, "" if there is none.
	name   string
	alpn   []string
	answer *tls.Config // for the handshake in which an authority checks a name (RFC 8737), otherwise nil
}

// errEnough ends a handshake after its first message.
var errEnough = errors.New("the hello has been read")

// readHello reads from conn until there is a whole ClientHello, or something else. It writes nothing. Before it reads more than
// largeHello bytes, it calls enlarge. The error is that of reading, also if the connection ended or its deadline passed too early.
// After an error, read has what came before.
//
// crypto/tls parses the hello: it may be split into many records. It does so only when the hello is whole, because it would reserve
// memory for all that a client announces.
func readHello(conn net.Conn, enlarge func()) (h hello, err error) {
	var s scan
	h.read = make([]byte, 0, firstRead)
	for more := true; more && len(h.read) < maxHello; {
		if size := len(h.read); size == cap(h.read) {
			if size == largeHello {
				enlarge()
			}
			h.read = append(make([]byte, 0, 2*size), h.read...)
		}
		n, err := conn.Read(h.read[len(h.read):cap(h.read)])
		h.read = h.read[:len(h.read)+n]
		if more = s.continues(h.read); more && err != nil {
			return h, err
		}
	}
	_ = tls.Server(&recorded{Conn: conn, rest: h.read}, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		h.tls, h.name, h.alpn = true, strings.ToLower(info.ServerName), slices.Clone(info.SupportedProtos)
		h.answer, _ = acme.AnswerTLS(info)
		return nil, errEnough
	}}).Handshake() // which fails
	return h, nil
}

// recorded is a connection on which nothing follows what has been read. It discards what is written: the alert that ends the handshake.
type recorded struct {
	net.Conn
	rest []byte
}

func (r *recorded) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *recorded) Write(p []byte) (int, error) { return len(p), nil }

// Numbers of TLS (RFC 8446, sections 4 and 5.1).
const (
	recordHeader    = 5
	handshakeRecord = 22
	messageHeader   = 4
	clientHello     = 1
)

// scan finds the end of a ClientHello.
type scan struct {
	next   int // where the next record begins
	size   int // of the message in the records before that
	header []byte
}

// continues reports whether more bytes are needed to tell what the connection begins with. It has returned true for less
// of b, or is called for the first time.
func (s *scan) continues(b []byte) bool {
	for {
		record := b[s.next:]
		if len(record) < recordHeader {
			return true
		}
		size := int(binary.BigEndian.Uint16(record[3:]))
		if record[0] != handshakeRecord || size == 0 {
			return false
		}
		if record = record[recordHeader:]; len(record) < size {
			return true
		}
		s.header = append(s.header, record[:min(size, messageHeader-len(s.header))]...)
		s.next, s.size = s.next+recordHeader+size, s.size+size
		if len(s.header) == messageHeader {
			length := int(binary.BigEndian.Uint32(s.header) & 0xffffff)
			if s.header[0] != clientHello || s.size >= messageHeader+length {
				return false
			}
		}
	}
}
