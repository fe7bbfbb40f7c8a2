package turn

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestRealmByServerName checks that the server name in TLS selects the realm, on a port of its own and on one shared with TCP.
func TestRealmByServerName(t *testing.T) {
	for _, schemes := range [][]string{{"tls"}, {"tcp", "tls"}} {
		var listens []listen.Addr
		for _, scheme := range schemes {
			listens = append(listens, listen.Addr{Scheme: scheme, Host: "127.0.0.1"})
		}
		c := encryptedOn(t, listens...)
		c.UserRealms = []UserRealm{{
			Realm: "example.net", Names: []string{"turn.example.net"},
			Users: map[string]credential.Secret{"alice": credential.NewSecret([]byte("the password of alice"))},
		}}
		address := moduletest.Start(t, New, c).sockets[0].Streams.Addr().String()
		for name, want := range map[string]string{"turn.example.net": "example.net", "turn.example.org": "example.org", "": "example.org"} {
			conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := challenged(t, conn); got != want {
				t.Errorf("%v: the realm for %q is %q, want %q", schemes, name, got, want)
			}
			conn.Close()
		}
		if len(schemes) > 1 {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			if got := challenged(t, conn); got != "example.org" {
				t.Errorf("without TLS, the realm is %q", got)
			}
			conn.Close()
		}
	}
}

// challenged returns the realm of the answer to a request without credentials.
func challenged(t *testing.T, conn net.Conn) (realm string) {
	t.Helper()
	var b stun.Builder
	b.Start(stun.MethodAllocate, stun.ClassRequest, stun.TransactionID{1})
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200) // the answer is a single write
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stun.Parse(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	for typ, value := range m.Attributes() {
		if typ == stun.AttrRealm {
			realm = string(value)
		}
	}
	return realm
}
