package discovery_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/mailturn/mailturn/imapext/discovery"
)

// serve is an IMAP server with one user and one entry.
func serve(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n")
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		tag, command, _ := strings.Cut(lines.Text(), " ")
		switch {
		case command == `LOGIN "alice@example.org" "wonderland"`:
			fmt.Fprintf(conn, "%s OK [CAPABILITY IMAP4rev1 METADATA] Logged in\r\n", tag)
		case strings.HasPrefix(command, "LOGIN"):
			fmt.Fprintf(conn, "%s NO [AUTHENTICATIONFAILED] Authentication failed\r\n", tag)
		case strings.HasPrefix(command, "GETMETADATA"):
			fmt.Fprintf(conn, "* METADATA \"\" (/shared/vendor/deltachat/turn \"turn.example.org:3478:1758650868:8Dqkyyu11MVESBqjbIylmB06rv8=\")\r\n")
			fmt.Fprintf(conn, "%s OK done\r\n", tag)
		default:
			fmt.Fprintf(conn, "%s OK done\r\n", tag)
		}
	}
}

// These two take the place of the network. Leave Options.Dialer nil to connect over TCP, and pass nil to Resolve for
// net.DefaultResolver.
type (
	pipe  struct{}
	names map[string]netip.Addr
)

func (pipe) DialContext(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go serve(server)
	return client, nil
}

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return []netip.Addr{n[host]}, nil
}

// Ask the IMAP server for its relay, and make the ICE servers for WebRTC.
func ExampleDiscover() {
	ctx := context.Background()
	decision, err := discovery.Discover(ctx, discovery.Options{
		Host: "mail.example.org", Port: 143, Security: discovery.Plain, Dialer: pipe{},
		Credentials: discovery.Credentials{Username: "alice@example.org", Password: "wonderland"},
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

// A value holds what a client needs for a call until it expires.
func ExampleParseValue() {
	value, err := discovery.ParseValue("turn.example.org:3478:1758650868:8Dqkyyu11MVESBqjbIylmB06rv8=")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(value)
	fmt.Println("expires", value.Expires)
	fmt.Println("refresh an hour before:", value.NeedsRefresh(value.Expires.Add(-time.Hour)))
	// Output:
	// turn.example.org:3478:1758650868:[redacted]
	// expires 2025-09-23 18:07:48 +0000 UTC
	// refresh an hour before: true
}
