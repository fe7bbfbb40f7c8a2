package shared

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/framework/acme"
)

// maxHello is how many bytes are read to understand what a connection begins with. Hellos have 200 to 2,000 bytes; the limit is that
// of nginx.
const maxHello = 16 << 10

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

// readHello reads from conn until there is a whole ClientHello, or something else. It writes nothing. The error is that of reading,
// also if the connection ended or its deadline passed too early. After an error, read has what came before.
//
// crypto/tls parses the hello: it may be split into many records.
func readHello(conn net.Conn) (h hello, err error) {
	r := &recorder{Conn: conn}
	_ = tls.Server(r, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		h.tls, h.name, h.alpn = true, strings.ToLower(info.ServerName), slices.Clone(info.SupportedProtos)
		h.answer, _ = acme.AnswerTLS(info)
		return nil, errEnough
	}}).Handshake() // which fails
	h.read = r.read
	if h.tls {
		return h, nil
	}
	return h, r.err
}

// recorder keeps what is read, up to maxHello, and discards what is written: the alert that ends the handshake.
type recorder struct {
	net.Conn
	read []byte
	err  error // of reading
}

// errLong ends the reading of a hello that is longer than any. It is not kept, since another server may know what to do with it.
var errLong = errors.New("the hello is too long")

func (r *recorder) Read(p []byte) (int, error) {
	p = p[:min(len(p), maxHello-len(r.read))]
	if len(p) == 0 {
		return 0, errLong
	}
	var n int
	n, r.err = r.Conn.Read(p)
	r.read = append(r.read, p[:n]...)
	return n, r.err
}

func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }
