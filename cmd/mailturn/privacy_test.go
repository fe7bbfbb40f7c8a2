package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	passwords "github.com/mailturn/mailturn/framework/password"
)

// private is a configuration of which clients come through proxies on loopback, so that they can have any address.
const private = `
hostname = "localhost"
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen         = ["udp://TURN", "tcp://TURN"]
  proxy_protocol = ["127.0.0.0/8"]
  realm          = "example.org"
  relay_ip       = "127.0.0.1"
  relay_ports    = "62000-64999"
  user_quota     = 1
  peers {
    allow = ["127.0.0.0/8"]
  }
}
endpoint "imap" "imap" {
  listen         = ["tcp://IMAP"]
  proxy_protocol = ["127.0.0.0/8"]
  insecure_auth  = true
  embedded {
    users = { "caroline@example.org" = "a password of some length" }
  }
}
endpoint "http" "http" {
  listen          = ["http://HTTP"]
  page_password   = "PASSWORD"
  api_keys        = ["a key of the test with 32 bytes!"]
  trusted_proxies = ["127.0.0.0/8"]
}
`

// TestPrivacy runs a call and everything around it, and looks for the account and the addresses in all that the server writes and shows.
func TestPrivacy(t *testing.T) {
	const client, peer, account, password = "198.51.100.77", "203.0.113.88", "caroline@example.org", "a password of some length"
	hash, err := passwords.Hash("another password of some length")
	if err != nil {
		t.Fatal(err)
	}
	places := strings.NewReplacer("TURN", freePort(t), "IMAP", freePort(t), "HTTP", freePort(t), "PASSWORD", hash)
	for _, tt := range []struct {
		name, settings  string
		shown, notShown []string
	}{
		{"none", "control {\n  record = \"1h\"\n  usage = \"24h\"\n}\n", []string{client, peer, account}, nil},
		{"shorten", "control {\n  record = \"1h\"\n  usage = \"24h\"\n}\nprivacy {\n  addresses = \"shorten\"\n  accounts = \"shorten\"\n}\n",
			[]string{"198.51.100.0/24", "203.0.113.0/24", "c…@example.org"}, []string{client, peer, "caroline"}},
		{"hash", "control {\n  usage = \"24h\"\n}\nprivacy {\n  addresses = \"hash\"\n  accounts = \"hash\"\n}\n", []string{"address-", "account-"}, []string{"198.51.100", peer, "caroline"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := run(t, places.Replace(private)+tt.settings)
			dial := func(place string) net.Conn {
				t.Helper()
				conn, err := net.Dial("tcp", places.Replace(place))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 50000 1\r\n", client)
				return conn
			}
			// IMAP.
			mail := dial("IMAP")
			answers := bufio.NewReader(mail)
			var value string
			for i, command := range []string{`LOGIN ` + account + ` "` + password + `"`, `GETMETADATA "" /shared/vendor/deltachat/turn`} {
				fmt.Fprintf(mail, "a%d %s\r\n", i, command)
				for {
					line, err := answers.ReadString('\n')
					if err != nil {
						t.Fatalf("%v\n%s", err, s.log)
					}
					if _, after, ok := strings.Cut(line, "/shared/vendor/deltachat/turn "); ok {
						value = after
					}
					if strings.HasPrefix(line, fmt.Sprintf("a%d ", i)) {
						break
					}
				}
			}
			// A call: a refused allocation, a refused peer, and data.
			fields := strings.SplitN(strings.TrimRight(strings.Trim(strings.TrimSpace(value), `")`), `"`), ":", 4)
			if len(fields) != 4 {
				t.Fatalf("the value is %q\n%s", value, s.log)
			}
			username, secret := fields[2], fields[3]
			tt.notShown = append(tt.notShown, username)
			if tt.name == "none" {
				tt.notShown = nil
			}
			allocate := func(password string) (*turnclient.Client, netip.AddrPort, error) {
				c := turnclient.New(turnclient.Config{Conn: dial("TURN"), Stream: true, Username: username, Password: password})
				t.Cleanup(func() { c.Close() })
				if _, err := c.Challenge(t.Context()); err != nil {
					t.Fatal(err)
				}
				allocation, err := c.Allocate(t.Context())
				return c, allocation.Relayed, err
			}
			call, relayed, err := allocate(secret)
			if err != nil {
				t.Fatalf("%v\n%s", err, s.log)
			}
			for _, password := range []string{secret, "wrong"} {
				if _, _, err := allocate(password); err == nil {
					t.Fatal("a second allocation is not refused")
				}
			}
			_ = call.CreatePermission(t.Context(), netip.MustParseAddr(peer))
			to, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			if err := call.ChannelBind(t.Context(), 0x4000, to.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
				t.Fatal(err)
			}
			_ = call.SendChannel(0x4000, make([]byte, 100))
			if _, _, err := to.ReadFrom(make([]byte, 200)); err != nil {
				t.Fatal(err)
			}
			var shown strings.Builder
			ctl := func(args ...string) {
				_, text := s.ctl(args...)
				fmt.Fprintf(&shown, "mailturn ctl %s\n%s\n", args[0], text)
			}
			ctl("sessions")
			ctl("sessions", "--json")
			ctl("status", "--json")
			ctl("who", fmt.Sprint(relayed.Port()), "now")
			ctl("who", fmt.Sprint(relayed.Port()), "now", "--json")
			// The page, as a browser shows it.
			jar, _ := cookiejar.New(nil)
			web := &http.Client{Jar: jar}
			fetch := func(path string, form url.Values) {
				t.Helper()
				r, _ := http.NewRequest(http.MethodGet, "http://"+places.Replace("HTTP")+path, nil)
				if form != nil {
					r, _ = http.NewRequest(http.MethodPost, r.URL.String(), strings.NewReader(form.Encode()))
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				r.Header.Set("X-Forwarded-For", client)
				answer, err := web.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				body, _ := io.ReadAll(answer.Body)
				if path == "/status" {
					if answer.StatusCode != http.StatusOK {
						t.Fatalf("%s: %s\n%s", path, answer.Status, body)
					}
					fmt.Fprintf(&shown, "%s\n%s\n", path, body)
				}
			}
			fetch("/login", url.Values{"password": {"wrong"}})
			fetch("/login", url.Values{"password": {"another password of some length"}})
			fetch("/status", nil)
			fetch("/turn?service=turn&username="+account+"&key=a+key+of+the+test+with+32+bytes!", nil)
			if _, err := call.Refresh(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			mail.Close()
			ctl("usage")
			ctl("usage", "--json", "--account", account)
			ctl("who", fmt.Sprint(relayed.Port()), time.Now().Format(time.RFC3339))
			for _, text := range []string{
				`msg="allocation made"`, `msg="allocation refused"`, `msg="allocation ended"`, `msg="request refused"`, `msg="peer refused"`,
				`msg="page: wrong password"`, `msg="page: logged in"`, "msg=request", `msg="session begins"`,
			} {
				if !strings.Contains(s.log.String(), text) {
					t.Errorf("the log lacks %s:\n%s", text, s.log)
				}
			}
			_ = filepath.WalkDir(filepath.Join(s.dir, recordDir), func(path string, entry os.DirEntry, err error) error {
				if err == nil && !entry.IsDir() {
					text, _ := os.ReadFile(path)
					fmt.Fprintf(&shown, "%s\n%s\n", path, text)
				}
				return nil
			})
			for place, text := range map[string]string{"the log": s.log.String(), "what is shown": shown.String()} {
				for _, hidden := range tt.notShown {
					for line := range strings.Lines(text) {
						if strings.Contains(strings.ToLower(line), hidden) {
							t.Errorf("%s has %q: %s", place, hidden, line)
						}
					}
				}
			}
			for _, wanted := range tt.shown {
				if !strings.Contains(s.log.String(), wanted) {
					t.Errorf("the log lacks %q:\n%s", wanted, s.log)
				}
				if !strings.HasPrefix(wanted, "203.0.113") && !strings.Contains(shown.String(), wanted) {
					t.Errorf("what is shown lacks %q:\n%s", wanted, &shown)
				}
			}
		})
	}
}

// TestMaskedAccountsOfRequests bans accounts and ends their calls by what ctl sessions shows for them. What stands for several accounts, or
// none, is refused.
func TestMaskedAccountsOfRequests(t *testing.T) {
	const hash, shorten = "\nprivacy {\n  accounts = \"hash\"\n}\n", "\nprivacy {\n  accounts = \"shorten\"\n}\n"
	r := runRelay(t)
	r.write(t, r.configuration+hash)
	r.want(t, 0, "Applied:\n", "reload")
	call := func(account string) {
		t.Helper()
		username, password := r.credential(t, account)
		r.allocate(t, username, password)
	}
	shown := func(want int) []sessionReport {
		t.Helper()
		sessions := r.sessions(t)
		if len(sessions) != want {
			t.Fatalf("%d sessions, want %d: %+v", len(sessions), want, sessions)
		}
		return sessions
	}
	call("mallory@example.org")
	masked := shown(1)[0].Account
	call("alice@example.org")
	r.want(t, 0, "Sessions that ended: 1", "ban", masked, "--for", "1h")
	r.want(t, 0, "mallory@example.org", "bans")
	if left := shown(1); left[0].Account == masked {
		t.Errorf("%+v is left", left)
	}
	r.want(t, 0, "", "unban", masked)
	r.want(t, exitFailure, "stands for no account", "ban", "account-000000000000")
	r.want(t, exitFailure, "stands for no account", "disconnect", "--account", "account-000000000000")
	r.want(t, 0, "There are no bans.", "bans")

	r.write(t, r.configuration+shorten)
	r.want(t, 0, "Applied:\n", "reload")
	call("anna@example.org")
	call("bob@example.org")
	for _, args := range [][]string{{"ban", "a…@example.org"}, {"disconnect", "--account", "a…@example.org"}} {
		r.want(t, exitFailure, `"a…@example.org" stands for 2 accounts: give the name of one, or a network`, args...)
	}
	shown(3)
	r.want(t, 0, "b…@example.org", "disconnect", "--account", "b…@example.org")
	r.want(t, 0, "a…@example.org", "disconnect", "--account", "Anna@example.org")
	shown(1)
}

// freePort returns an address on loopback that nothing listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
