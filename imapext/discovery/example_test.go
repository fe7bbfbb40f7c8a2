package discovery_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/mailturn/mailturn/imapext/discovery"
)

// server is an IMAP server for the example: it knows one value.
func server(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "* OK ready\r\n")
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		tag, command, _ := strings.Cut(lines.Text(), " ")
		switch {
		case strings.HasPrefix(command, "CAPABILITY"):
			fmt.Fprintf(conn, "* CAPABILITY IMAP4rev1 METADATA\r\n")
		case strings.HasPrefix(command, "GETMETADATA"):
			fmt.Fprintf(conn, "* METADATA \"\" (/shared/vendor/deltachat/turn \"turn.example.org:3478:1758650868:8Dqkyyu11MVESBqjbIylmB06rv8=\")\r\n")
		}
		fmt.Fprintf(conn, "%s OK done\r\n", tag)
	}
}

// The two stand for the network: without them Discover connects and Resolve takes net.DefaultResolver.
type (
	pipe  struct{}
	names map[string]netip.Addr
)

func (pipe) DialContext(context.Context, string, string) (net.Conn, error) {
	client, other := net.Pipe()
	go server(other)
	return client, nil
}

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return []netip.Addr{n[host]}, nil
}

// A client asks its IMAP server for the relay and makes the ICE servers for WebRTC.
func ExampleDiscover() {
	ctx := context.Background()
	decision, err := discovery.Discover(ctx, discovery.Options{
		Host: "mail.example.org", Port: 143, Security: discovery.Plain, Username: "alice@example.org", Password: "wonderland", Dialer: pipe{},
	})
	if err != nil {
		fmt.Println("no mail either:", err)
		return
	}
	if decision.Fallback {
		fmt.Println("public servers until", decision.Expires, "because", decision.Reason)
	}
	servers, _ := discovery.Resolve(ctx, names{"turn.example.org": netip.MustParseAddr("203.0.113.7")}, decision.Servers())
	fmt.Printf("%s\n", discovery.AppendJSON(nil, servers))
	// Output: [{"urls":["turn:203.0.113.7:3478"],"username":"1758650868","credential":"8Dqkyyu11MVESBqjbIylmB06rv8="}]
}
