package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/pionturn"
	"github.com/mailturn/mailturn/turnsrv/pionturn/pionturntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

var update = flag.Bool("update", false, "write the golden files")

// TestEveryMemberIsDocumented compares docs/probe.md with the types and the checks.
func TestEveryMemberIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/probe.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(text)
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(typ.Elem())
		case reflect.Struct:
			if typ == reflect.TypeFor[time.Time]() {
				return
			}
			for field := range typ.Fields() {
				if !field.IsExported() {
					continue
				}
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				if name == "" || !strings.Contains(document, "`"+name+"`") {
					t.Errorf("docs/probe.md does not describe %s.%s as `%s`", typ.Name(), field.Name, name)
				}
				walk(field.Type)
			}
		}
	}
	walk(reflect.TypeFor[Report]())
	walk(reflect.TypeFor[LoadReport]())
	for _, id := range order {
		if !strings.Contains(document, "`"+id+"`") {
			t.Errorf("docs/probe.md does not describe the check %s", id)
		}
	}
	for _, status := range []Status{OK, Note, Skipped, Warning, Failure} {
		if !strings.Contains(document, "`"+string(status)+"`") {
			t.Errorf("docs/probe.md does not name the status %s", status)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		checks  []Check
		want    Status
		connect bool
		text    string
		exit    int
	}{
		{"good", []Check{{ID: "turn.udp", Status: OK}, {ID: "turn.ipv6", Status: Note}, {ID: "safety.expired", Status: Skipped}}, OK, true, "A call would connect.", 0},
		{"warning", []Check{{ID: "turn.ipv6", Status: Warning, Summary: "six"}}, Warning, true, "but: six", 0},
		{"the cause goes before its effects", []Check{{ID: "turn.credential", Status: Failure, Summary: "effect"}, {ID: "value.expiry", Status: Failure, Summary: "cause"}}, Failure, false, "not connect: cause", 1},
		{"a failure before a warning", []Check{{ID: "imap.tls", Status: Warning, Summary: "soon"}, {ID: "turn.udp", Status: Failure, Summary: "closed"}}, Failure, false, "not connect: closed", 1},
		{"unsafe", []Check{{ID: "imap.tls", Status: Warning, Summary: "soon"}, {ID: "safety.loopback", Status: Failure, Summary: "open"}}, Failure, true, "not safe: open", 1},
		{"unsafe and closed", []Check{{ID: "safety.loopback", Status: Failure, Summary: "open"}, {ID: "turn.direct", Status: Failure, Summary: "closed"}}, Failure, false, "not connect: closed", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Report{Checks: tt.checks}
			r.Verdict = r.judge()
			if r.Verdict.Status != tt.want || r.Verdict.CallConnects != tt.connect || !strings.Contains(r.Verdict.Text, tt.text) || r.ExitStatus() != tt.exit {
				t.Errorf("got %+v and exit status %d, want %s with %q and %d", r.Verdict, r.ExitStatus(), tt.want, tt.text, tt.exit)
			}
		})
	}
}

// badReport has a check of each status.
func badReport() *Report {
	r := &Report{SchemaVersion: 1, Target: "imaps://alice%40example.org@mail.example.org", DurationMS: 5123.4}
	r.add("turn.dns", "turn.example.org", OK, "turn.example.org: A 203.0.113.7 (TTL 5m); no AAAA.", "")
	r.add("turn.direct", "203.0.113.7:3478 UDP", Skipped, "Whether the relay ports are open was not seen.", "")
	r.add("turn.udp", "203.0.113.7:3478 UDP", Failure, "UDP to port 3478 is blocked (no answer), while TCP gets through, which clients do not use.", "Open UDP port 3478 in the server's firewall and at its provider, and check that the relay listens there.")
	r.add("turn.relay_to_relay", "203.0.113.7:3478 TCP", OK, "Relay to relay: 20 of 20 packets, 12 ms.", "")
	r.add("imap.tls", "mail.example.org", Warning, "the certificate ends in 3d 2h.", "Find out why it was not renewed.")
	r.add("turn.ipv6", "turn.example.org", Note, "the relay has no IPv6 address.", "")
	r.IMAP = &Session{Metadata: []string{`* METADATA "" (/shared/vendor/deltachat/turn "turn.example.org:3478:5:[redacted]")`}}
	r.ICEServers = json.RawMessage(`[{"urls":["turn:203.0.113.7:3478"],"username":"5","credential":"[redacted]"}]`)
	r.Relays = []Relay{
		{Address: "203.0.113.7:3478", Transport: UDP, Stage: stageBinding, Error: "no answer"},
		{Address: "203.0.113.7:3478", Transport: TCP, BindingMS: 11.5, AllocateMS: 12.25, RelayedAddr: "203.0.113.7:50123", RelayToRelay: &Echo{Sent: 20, Received: 20, MedianMS: 12}, Direct: &Echo{Sent: 20}},
	}
	r.Verdict = r.judge()
	return r
}

func TestWriteText(t *testing.T) {
	for name, options := range map[string][2]bool{"plain": {false, false}, "colour": {true, false}, "all": {false, true}} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := badReport().WriteText(&got, options[0], options[1]); err != nil {
				t.Fatal(err)
			}
			golden := "testdata/" + name + ".txt"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got:\n%s\nwant, as in %s:\n%s", got.Bytes(), golden, want)
			}
			for line := range strings.Lines(got.String()) {
				if n := len([]rune(line)); n > 101 && !options[0] && line[0] != '[' && line[0] != '*' { // what users copy stays on one line
					t.Errorf("%d characters: %s", n, line)
				}
			}
		})
	}
}

func TestReportIsJSON(t *testing.T) {
	text, err := json.Marshal(badReport())
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(text, &got); err != nil || len(got.Checks) != 6 || got.Relays[1].Direct.Sent != 20 {
		t.Errorf("got %+v, %v", got, err)
	}
	if ids := func() (ids []string) {
		for _, c := range got.Checks {
			ids = append(ids, c.ID)
		}
		return ids
	}(); ids[0] != "imap.tls" || !slices.Contains(order, ids[5]) {
		t.Errorf("the checks are in the order %v", ids)
	}
}

func TestWriteLoad(t *testing.T) {
	r := LoadReport{Target: "turn:192.0.2.1", Address: "192.0.2.1:3478", Transport: UDP, Allocations: 20, Sent: 1000, Received: 990, Loss: 0.01, PacketBytes: 160, ElapsedMS: 10000, SentPPS: 100, ReceivedPPS: 99, ReceivedBPS: 126720, RTT: &RTT{1, 2, 30, 400}}
	var got bytes.Buffer
	if err := r.WriteText(&got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"192.0.2.1:3478 over UDP", "1000 packets of 160 bytes", "990: 99 a second, 0.1 Mbit/s", "1.000 %", "median 1.0 ms, 90 % within 2.0 ms, 99 % within 30 ms, at most 400 ms"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &got)
		}
	}
}

// TestEcho loses every fifth packet, duplicates every third, and adds foreign ones.
func TestEcho(t *testing.T) {
	e := newEcho(15)
	n := 0
	result := e.run(t.Context(), 0, func(payload []byte) error {
		if n++; n%5 == 0 {
			return nil
		}
		e.received(payload)
		if n%3 == 0 {
			e.received(payload)
		}
		e.received(make([]byte, echoSize))
		return nil
	})
	if result.Sent != 15 || result.Received != 12 || result.MinMS > result.MedianMS || result.MedianMS > result.MaxMS {
		t.Errorf("got %+v, want 12 of 15", result)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if result := newEcho(15).run(ctx, time.Hour, func([]byte) error { return nil }); result.Sent > 2 {
		t.Errorf("%d packets were sent after the end", result.Sent)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"a\x1b[31mb\r\n": `a\x1b[31mb\r\n`, `a "b" \`: `a "b" \`, "ü\xff": "ü�"} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got := printable(strings.Repeat("x", 5000)); len(got) > 1010 {
		t.Errorf("%d bytes of a long text", len(got))
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"* METADATA \"\" (/shared/vendor/deltachat/turn \"h:1:5:hunter2\" /shared/comment \"a:b\")\r\n": `* METADATA "" (/shared/vendor/deltachat/turn "h:1:5:[redacted]" /shared/comment "a:b")`,
		"* METADATA \"\" (/shared/vendor/deltachat/turn {13}\r\nh:1:5:hunter2)\r\n":                     `* METADATA "" (/shared/vendor/deltachat/turn {13}\r\nh:1:5:[redacted])`,
		"* METADATA \"\" (/shared/turn \"h:1:5:hunter2\")\r\n":                                          "(a response that does not parse, not shown because it may hold a password)",
	} {
		if got := redact([]byte(in)); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestProgressIsPrintable checks that a relay's name cannot control the terminal.
func TestProgressIsPrintable(t *testing.T) {
	var shown string
	newRun(Options{Progress: func(what string) { shown = what }}).Progress("looking up \x1b]0;x\ah")
	if shown != `looking up \x1b]0;x\ah` {
		t.Errorf("got %q", shown)
	}
	newRun(Options{}).Progress("nobody looks")
}

// TestJudgeRelays checks a relay that allocates over UDP and refuses the same credential over TCP.
func TestJudgeRelays(t *testing.T) {
	r := newRun(Options{})
	r.transports = []Transport{UDP, TCP}
	addr := netip.MustParseAddrPort("203.0.113.7:3478")
	r.addrs = []netip.Addr{addr.Addr()}
	echoed := &Echo{Sent: 20, Received: 20}
	r.judgeRelays([]*attempt{
		{addr: addr, Relay: Relay{Transport: UDP, RelayedAddr: "203.0.113.7:50000", RelayToRelay: echoed, Direct: echoed}},
		{addr: addr, Relay: Relay{Transport: TCP, Stage: stageAllocate, Code: 486}, err: &turnclient.Error{Method: stun.MethodAllocate, Code: 486}},
	})
	if r.report.Verdict = r.report.judge(); r.report.Verdict.Status != OK {
		t.Errorf("got the verdict %+v", r.report.Verdict)
	}
	if !slices.ContainsFunc(r.report.Checks, func(c Check) bool {
		return c.ID == "turn.tcp" && c.Status == Note && strings.Contains(c.Summary, "486")
	}) {
		t.Errorf("no check of TCP in %+v", r.report.Checks)
	}
}

// TestFamiliesInDNS checks a name with too many addresses, of which the last one is IPv6 and must still be tried, and a name
// without IPv4.
func TestFamiliesInDNS(t *testing.T) {
	r := newRun(Options{})
	r.value.Hostname = "turn.example.org"
	for i := range maxAddresses {
		r.addrs = append(r.addrs, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
	}
	six := netip.MustParseAddr("2001:db8::1")
	r.addrs = append(r.addrs, six)
	if tried := r.addresses(); !slices.Contains(tried, six) || len(tried) > maxAddresses {
		t.Errorf("%v are tried", tried)
	}
	r.judgeFamilies(nil)
	if len(r.report.Checks) != 0 {
		t.Errorf("both families: got %+v", r.report.Checks)
	}
	r.addrs = r.addrs[maxAddresses:]
	r.judgeFamilies(nil)
	if len(r.report.Checks) != 1 || r.report.Checks[0].ID != "turn.ipv4" || r.report.Checks[0].Status != Warning {
		t.Errorf("IPv6 alone: got %+v", r.report.Checks)
	}
}

// deaf is a socket that never receives a CreatePermission request.
type deaf struct{ net.PacketConn }

func (d deaf) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	for {
		n, from, err = d.PacketConn.ReadFrom(b)
		if m, parseErr := stun.Parse(b[:n]); err != nil || parseErr != nil || m.Method != stun.MethodCreatePermission {
			return n, from, err
		}
	}
}

// TestUnansweredIsNotRefused checks a relay that does not answer requests about forbidden peers.
func TestUnansweredIsNotRefused(t *testing.T) {
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go pionturntest.New(t, pionturn.Quotas{}).ServePacket(deaf{packets})
	r := newRun(Options{})
	r.value.Username, r.value.Password = pionturntest.Username, pionturntest.Password
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r.forbiddenPeers(ctx, &attempt{addr: netip.MustParseAddrPort(packets.LocalAddr().String()), Relay: Relay{Transport: UDP}})
	for _, c := range r.report.Checks {
		if c.Status != Skipped || !strings.Contains(c.Summary, "no answer") {
			t.Errorf("got %+v", c)
		}
	}
	if v := r.report.judge(); len(r.report.Checks) == 0 || !strings.Contains(v.Text, "Not tested: whether the relay refuses") {
		t.Errorf("got the verdict %q", v.Text)
	}
}

// TestNoControlCharacters checks that a server's text cannot control the terminal.
func TestNoControlCharacters(t *testing.T) {
	r := &Report{}
	r.add("turn.udp", "a\x1b]0;b\a", Failure, "it says \x1b[2J.", "do\x07")
	r.Verdict = r.judge()
	var got bytes.Buffer
	if err := r.WriteText(&got, false, true); err != nil || strings.ContainsAny(got.String(), "\x1b\a") {
		t.Errorf("got %q, %v", got.String(), err)
	}
}
