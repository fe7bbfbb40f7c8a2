package imap_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
)

// An endpoint goes from its block in a file to a socket: decode, link with the relay, start, shut down.
func Example() {
	stateDir, err := os.MkdirTemp("", "mailturn")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(stateDir)
	pair, _, err := certs.SelfSigned(stateDir, []string{"localhost"}, time.Now())
	if err != nil {
		log.Fatal(err)
	}

	file, diags := config.Parse("maddy.conf", []byte(`
endpoint "imap" "imap" {
  listen = "tls://127.0.0.1:0"
  embedded {
    users = { "alice" = "wonderland" }
  }
  turn_server = "turn.example.org"
  turn_secret = "an example of 32 random bytes..."
}`))
	if diags.HasErrors() {
		log.Fatal(diags)
	}
	c, diags := imap.Decode(file.Endpoints[0], imap.Defaults{TLS: []certs.Pair{pair}})
	diags = append(diags, c.LinkTURN(nil)...)
	if diags.HasErrors() {
		log.Fatal(diags)
	}

	endpoint, err := imap.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		log.Fatal(err)
	}
	if err := endpoint.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	defer endpoint.Shutdown(context.Background())

	conn, err := tls.Dial("tcp", endpoint.Addrs()[0].String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "a LOGIN alice wonderland\r\nb GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), `* METADATA "" (/shared/vendor/deltachat/turn "`); found {
			host, rest, _ := strings.Cut(value, ":")
			port, _, _ := strings.Cut(rest, ":")
			fmt.Println(host, port)
			break
		}
	}
	// Output: turn.example.org 3478
}
