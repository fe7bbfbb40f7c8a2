package coturn

import (
	"slices"
	"strings"
	"testing"
)

// imported translates a file. It returns the configuration, and the remarks about the named lines.
func imported(t *testing.T, text string) (configuration string, i *Import) {
	t.Helper()
	directives, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	i = Translate(directives, "/etc/coturn")
	var b strings.Builder
	if err := i.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String(), i
}

// kinds returns the kinds of all remarks about a directive.
func (i *Import) kinds(name string) (kinds []Kind) {
	for _, r := range i.Remarks {
		if r.Directive.Name == name {
			kinds = append(kinds, r.Kind)
		}
	}
	return kinds
}

// TestNumbers checks that numbers are read as coturn reads them, and that an invalid one does not silently become the default.
func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		line, want string // want is in the result; empty if the value cannot be translated
		remark     Kind   // Needless if there is none
	}{
		{"min-port=50000", `relay_ports = "50000-65535"`, Needless},
		{"min-port=50000 # of each call", `relay_ports = "50000-65535"`, Needless},
		{"min-port=50000;", `relay_ports = "50000-65535"`, Doubtful},
		{"min-port=50000, the first", `relay_ports = "50000-65535"`, Doubtful},
		{"max-port=+60999;", `relay_ports = "49152-60999"`, Doubtful},
		{"listening-port=3479;", `:3479"`, Doubtful},
		{"user-quota=12x", `user_quota  = 12`, Doubtful},
		{"max-bps=64000;", `max_bps     = 512000`, Doubtful},
		{"stale-nonce=300;", `nonce_lifetime = 300`, Doubtful},
		{"max-allocate-lifetime=1800;", `max_lifetime = 1800`, Doubtful},
		{"stale-nonce=0;", `endpoint`, Missing},
		{"channel-lifetime=600;", `as RFC 8656 section 12 has it`, Needless},
		{"permission-lifetime=301", `it is always 300`, Missing},
		{"min-port=80", "", Wrong},
		{"min-port=", "", Wrong},
		{"min-port=x", "", Wrong},
		{"max-port=65536", "", Wrong},
		{"max-port=6553", "", Wrong}, // below the default of min-port
		{"listening-port=-3478", "", Wrong},
		{"listening-port=99999999999999999999", "", Wrong},
		{"listening-port=0x0d96", "", Wrong}, // 0, followed by something else
		{"user-quota=-1", "", Wrong},
		{"stale-nonce=always", "", Wrong},
		{"stale-nonce=1", "", Wrong},
		{"max-allocate-lifetime=1e3", "", Wrong},
		{"channel-lifetime=long", "", Wrong},
		{"prometheus-port=x", "", Wrong},
	} {
		got, i := imported(t, tt.line+"\n")
		name, _, _ := strings.Cut(tt.line, "=")
		if tt.want == "" {
			tt.want = "# Not translated: set it here, or fix it there and import again:\n#   line 1, " + name
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: want %s in\n%s", tt.line, tt.want, got)
		}
		switch kinds := i.kinds(name); {
		case tt.remark == Needless && (len(kinds) > 1 || len(kinds) == 1 && kinds[0] != Needless),
			tt.remark != Needless && (len(kinds) != 1 || kinds[0] != tt.remark):
			t.Errorf("%s: remarks of kinds %v, want %v", tt.line, kinds, tt.remark)
		}
	}
}

// TestWrongValues checks that values with which coturn would not start are not translated.
func TestWrongValues(t *testing.T) {
	for _, line := range []string{
		"no-udp=perhaps", "no-tcp=off;", "dtls=?", "verbose=;", "mobility=-", "lt-cred-mech=~",
		"listening-ip=198.51.100.7;", "listening-ip=eth0", "relay-ip=198.51.100.0/24", "external-ip=198.51.100.7;",
		"external-ip=198.51.100.7/10.0.0.7/10.0.0.8", "external-ip=198.51.100.7/fd00::7", "external-ip=",
		"denied-peer-ip=10.0.0.0-9.0.0.0", "denied-peer-ip=10.0.0.0-10.0.0.9;", "allowed-peer-ip=fd00::1-10.0.0.1", "denied-peer-ip=",
		"allocation-default-address-family=ipv5", "prometheus-address=localhost", "static-auth-secret=", "static-auth-secret=\xff", "static-auth-secret=cafe\u0301",
		"realm=\xff", "user=alice", "cert=\xff",
	} {
		name, _, _ := strings.Cut(line, "=")
		if _, i := imported(t, line+"\n"); !slices.Contains(i.kinds(name), Wrong) {
			t.Errorf("%q: remarks of kinds %v, want Wrong", line, i.kinds(name))
		}
	}
}

// TestSemicolons checks that semicolons at the end of a text are kept, as by coturn, with a remark.
func TestSemicolons(t *testing.T) {
	got, i := imported(t, "realm=example.org;\nstatic-auth-secret=wonder;land;\ncert=/etc/cert.pem;\npkey=/etc/key.pem\n")
	for _, want := range []string{"= \"example.org;\"\n", "= \"wonder;land;\"\n", `= "/etc/cert.pem;"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	for _, name := range []string{"realm", "static-auth-secret", "cert"} {
		if kinds := i.kinds(name); len(kinds) == 0 || kinds[0] != Doubtful {
			t.Errorf("%s: remarks of kinds %v", name, kinds)
		}
	}
	if _, i := imported(t, "realm=r\nuser-quota=12\nuser=alice:wonderland;\n"); len(i.kinds("user")) != 1 {
		t.Errorf("a password: %v", i.Remarks)
	}
}

func TestOn(t *testing.T) {
	for value, want := range map[string]bool{
		"": true, "1": true, "yes": true, "true": true, "on": true, "On": true, "t": true,
		"0": false, "no": false, "No": false, "false": false, "off": false, "OFF": false, "f": false,
	} {
		if got, err := (Directive{Value: value}).on(); got != want || err != nil {
			t.Errorf("%q: got %v, %v", value, got, err)
		}
	}
}

// TestWhoIsServed checks for a remark if coturn's users or secrets are not in the file, or if it serves everybody.
func TestWhoIsServed(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "#   lt-cred-mech: it is missing",
		"lt-cred-mech=0\n":  "line 1, lt-cred-mech: nobody is served without credentials",
		"lt-cred-mech\n":    "line 1, lt-cred-mech: the users are in coturn's database",
		"use-auth-secret\n": "line 1, use-auth-secret: the secrets are in coturn's database",
		"realm=r\nuser=alice:wonderland\nuser-quota=12\n":   "",
		"static-auth-secret=correct horse battery staple\n": "",
	} {
		got, i := imported(t, text)
		if !strings.Contains(got, want) || want == "" && len(i.Remarks) > 0 {
			t.Errorf("%q: no %s in\n%s", text, want, got)
		}
	}
}
