package acme

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRefusals checks that the log says why there is no certificate and what to do, while mailturn serves.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name  string
		world world
		lines []string
		taken func(t *testing.T, address string) // does something else with the port for challenges
		own   bool                               // mailturn answers challenges elsewhere
		key   string                             // for dns-01: key_name and key
		want  []string
	}{
		{name: "another server answers", taken: answerOther, own: true,
			want: []string{"refuses mail.example.test (unauthorized)"}},
		{name: "nobody answers", own: true, want: []string{"refuses mail.example.test (connection)"}},
		{name: "port taken", taken: occupy,
			want: []string{"is in use by acme.test", fmt.Sprintf("(process %d)", os.Getpid()), "let it forward /.well-known/acme-challenge/", "place="}},
		{name: "CAA", world: world{problem: "caa"}, want: []string{"(caa): Pebble would rather not: the CAA records of mail.example.test"}},
		{name: "rate limit", world: world{problem: "rateLimited"}, want: []string{"(rateLimited)", "wait; for tests", "again_in=5h"}},
		{name: "wrong clock", world: world{made: time.Now().AddDate(-2, 0, 0)}, want: []string{"and the clock of this machine says", "set it"}},
		{name: "terms", lines: []string{"agree_to_terms = false"}, want: []string{"that you agree to its terms: read data:text/plain", "add agree_to_terms = true"}},
		{name: "external account", world: world{needAccount: true}, want: []string{"set eab_key_id and eab_key"}},
		{name: "another TSIG key", key: `key_name = "mailturn"` + "\n key = \"" + strings.Repeat("A", 43) + `="`,
			want: []string{"it has another key mailturn. than that in key: copy the key again"}},
		{name: "unknown TSIG key", key: `key_name = "nobody"` + "\n key = \"" + updateKey + `"`,
			want: []string{"update example.test. at name server 127.0.0.1:", "it has no key nobody. for hmac-sha256, or none that may change the zone"}},
		{name: "another algorithm", key: "key_algorithm = \"hmac-sha1\"\n key_name = \"mailturn\"\n key = \"" + updateKey + `"`,
			want: []string{"it has no key mailturn. for hmac-sha1,"}},
		{name: "key without permission", key: `key_name = "reader"` + "\n key = \"" + updateKey + `"`,
			want: []string{`err="update example.test. at name server`, "or none that may change the zone: correct key_name or key_algorithm, or its configuration"}},
		{name: "roots", lines: []string{"roots"}, want: []string{"name its root certificate with ca_file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.key != "" {
				tt.world.resolver = startKnot(t)
			}
			a := newAuthority(t, tt.world)
			a.serve(t)
			listen := fmt.Sprintf("127.0.0.1:%d", a.challenge)
			if tt.taken != nil {
				tt.taken(t, listen)
			}
			if tt.own {
				listen = freeAddr(t)
			}
			lines := append([]string{fmt.Sprintf("http_listen = %q", listen)}, tt.lines...)
			switch {
			case tt.key != "":
				lines = []string{"agree_to_terms = true", fmt.Sprintf("dns {\n server = %q\n %s\n}", tt.world.resolver, tt.key)}
			case tt.name == "roots":
				a.roots, lines = newAuthority(t, world{}).roots, []string{lines[0], "agree_to_terms = true"}
			case len(tt.lines) == 0:
				lines = append(lines, "agree_to_terms = true")
			}
			s := start(t, a.block(lines...))
			s.await(t, `msg="certificate not obtained"`, 2)
			for _, want := range tt.want {
				s.await(t, want, 1)
			}
		})
	}
}

// answerOther runs another server on the port.
func answerOther(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "It works!") })}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

// occupy listens on the port.
func occupy(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
}

// TestExternalAccount obtains a certificate from an authority that requires an external account.
func TestExternalAccount(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, world{validity: 90 * 24 * time.Hour, needAccount: true})
	a.serve(t)
	start(t, a.block("agree_to_terms = true", fmt.Sprintf(`http_listen = "127.0.0.1:%d"`, a.challenge), `eab_key_id = "kid-1"`,
		`eab_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"`)).awaitIssued(t, anyCertificate)
}
