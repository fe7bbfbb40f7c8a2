package door

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// Every XMPP server here has this domain, and one user with this name and password.
const (
	Domain   = "localhost"
	User     = "alice"
	Password = "wonderland"
)

// askLimit is the total time that a user waits.
const askLimit = 30 * time.Second

// A Service is what a server tells its users of a relay (XEP-0215 section 3.1).
type Service struct {
	Type       string `xml:"type,attr"` // stun, turn or turns
	Host       string `xml:"host,attr"`
	Port       int    `xml:"port,attr"`
	Transport  string `xml:"transport,attr"` // udp or tcp
	Username   string `xml:"username,attr"`
	Password   string `xml:"password,attr"`
	Expires    string `xml:"expires,attr"` // as in XEP-0082, where the server says it
	Restricted string `xml:"restricted,attr"`
}

// Services logs in to an XMPP server and asks which services there are. Without a password it does so as a guest, by SASL
// ANONYMOUS. The connection is not encrypted.
func Services(ctx context.Context, s *chroot.Server, password string) ([]Service, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	c := &stream{conn: conn}
	services, err := c.services(password)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.Log())
	}
	return services, nil
}

// stream is a connection of a client (RFC 6120).
type stream struct {
	conn    net.Conn
	decoder *xml.Decoder
}

// features are those of RFC 6120 section 4.3.2 that matter here.
type features struct {
	Mechanisms []string `xml:"urn:ietf:params:xml:ns:xmpp-sasl mechanisms>mechanism"`
}

func (c *stream) services(password string) ([]Service, error) {
	f, err := c.open()
	if err != nil {
		return nil, err
	}
	auth := "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>"
	if password != "" {
		auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" +
			base64.StdEncoding.EncodeToString([]byte("\x00"+User+"\x00"+password)) + "</auth>"
	}
	if err := c.ask(auth, "success", nil); err != nil {
		return nil, fmt.Errorf("log in by one of %q: %w", f.Mechanisms, err)
	}
	if _, err := c.open(); err != nil {
		return nil, err
	}
	if err := c.ask("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "iq", nil); err != nil {
		return nil, err
	}
	var answer struct {
		Type     string    `xml:"type,attr"`
		Services []Service `xml:"urn:xmpp:extdisco:2 services>service"`
		Error    struct {
			Text string `xml:",innerxml"`
		} `xml:"error"`
	}
	err = c.ask("<iq type='get' id='services' to='"+Domain+"'><services xmlns='urn:xmpp:extdisco:2'/></iq>", "iq", &answer)
	if err == nil && answer.Type != "result" {
		err = errors.New("the server answers " + answer.Error.Text)
	}
	return answer.Services, err
}

// open begins the stream, or begins it again, and returns what the server offers then.
func (c *stream) open() (f features, err error) {
	c.decoder = xml.NewDecoder(bufio.NewReader(c.conn)) // the server is silent until it is asked
	header := "<?xml version='1.0'?><stream:stream to='" + Domain + "' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
	return f, c.ask(header, "features", &f)
}

// ask sends text and reads elements until one has the name, into v unless that is nil. Errors of the stream and of SASL end it.
func (c *stream) ask(text, name string, v any) error {
	if _, err := io.WriteString(c.conn, text); err != nil {
		return err
	}
	for {
		token, err := c.decoder.Token()
		if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok || start.Name.Local == "stream":
		case start.Name.Local == name && v != nil:
			return c.decoder.DecodeElement(v, &start)
		case start.Name.Local == name:
			return c.decoder.Skip()
		case start.Name.Local == "error" || start.Name.Local == "failure":
			var reason struct {
				Text string `xml:",innerxml"`
			}
			return errors.Join(c.decoder.DecodeElement(&reason, &start), errors.New("the server says "+reason.Text))
		default:
			if err := c.decoder.Skip(); err != nil {
				return err
			}
		}
	}
}
