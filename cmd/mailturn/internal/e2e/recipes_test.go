package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// A claim says which test runs one block of the documentation.
type claim struct {
	document, heading string
	first             string // what the block's first line begins with
	check             func(t *testing.T, d documents, b recipe.Block)
}

// claims has every block of the documents that is not output, in their order.
var claims = []claim{
	{"CONTRIBUTING.md", "Build and test", "go build", buildAndTest},
	{"CONTRIBUTING.md", "Build and test", ".ci/run", runItself},
	{"CONTRIBUTING.md", "Build and test", "go run ./cmd/mailturn/internal/soak/main.go", soakBriefly},
	{"CONTRIBUTING.md", "See a test fail", "git show", seeATestFail},
	{"README.md", "Try it", "go run ./cmd/mailturn run", tryIt},
	{"README.md", "Test it", "go test -race", testIt},
	{"docs/cluster.md", "Join a cluster", "cluster {", clusterOfTwo},
	{"docs/cluster.md", "Join a cluster", "# networks", clientRegions},
	{"docs/cluster.md", "The Redis server", "user mailturn", userOfRedis},
	{"docs/coturn.md", "Import coturn's configuration", "sudo mailturn import", moveInFromCoturn},
	{"docs/coturn.md", "Import coturn's configuration", "sudo mailturn check-config", replaceServer("coturn")},
	{"docs/coturn.md", "Run both for a while", `endpoint "turn"`, besideCoturn},
	{"docs/control.md", "Who may use it", "sudo groupadd", controlGroup},
	{"docs/control.md", "Who was it?", "control {", recordOfCalls},
	{"docs/container.md", "Run it with Docker", "docker build", runWithDocker},
	{"docs/container.md", "Beside docker-mailserver", "docker compose up", besideDockerMailserver},
	{"docs/credentials.md", "A chatmail relay", `endpoint "credsock"`, credsockDoor},
	{"docs/credentials.md", "A chatmail relay", "sudo mailturn export chatmail", chatmailRelay},
	{"docs/credentials.md", "Dovecot without a proxy", `endpoint "dict"`, dictDoor},
	{"docs/credentials.md", "Dovecot without a proxy", "mail_attribute {", dovecotDict("2.4")},
	{"docs/credentials.md", "Dovecot without a proxy", "mail_attribute_dict", dovecotDict("2.3")},
	{"docs/credentials.md", "Web clients", "curl", webClients},
	{"docs/credentials.md", "Janus", "turn_rest_api =", janusAsks},
	{"docs/credentials.md", "Several relays", "relay {", otherRelays},
	{"docs/demo.md", "The demo", "go run ./cmd/mailturn run", tryIt},
	{"docs/eturnal.md", "Translate eturnal.yml", "hostname =", eturnalCounterpart},
	{"docs/eturnal.md", "Translate eturnal.yml", "sudo mailturn check-config", replaceServer("eturnal")},
	{"docs/imap.md", "Put mailturn in front of Dovecot", "sudo mailturn check-config", checkInstalled},
	{"docs/imap.md", "Put mailturn in front of Dovecot", "sudo mailturn export dovecot", moveDovecot},
	{"docs/imap.md", "Put mailturn in front of Dovecot", "login_trusted_networks", frontOfDovecot},
	{"docs/imap.md", "Other IMAP servers", `endpoint "imap"`, frontOfOther},
	{"docs/imap.md", "Cyrus", "imap cmd=", frontOfCyrus},
	{"docs/imap.md", "maddy", "imap tcp:", blockOfMaddy},
	{"docs/imap.md", "Stalwart", "[server.listener.imaptls]", listenerOfStalwart},
	{"docs/imap.md", "Stalwart", "upstream {", upstreamOfStalwart},
	{"docs/imap.md", "Fail-over, load balancers, compression", "defaults", haproxyInFront},
	{"docs/install.md", "Install the Debian package", "sudo apt install", installPackage},
	{"docs/install.md", "Install from source", "CGO_ENABLED=0 go build", buildOne},
	{"docs/install.md", "Install from source", "sudo useradd", install},
	{"docs/install.md", "Start it", "sudo systemctl enable", startInstalled},
	{"docs/interop.md", "What works with mailturn", ".ci/matrix", writeMatrix},
	{"docs/nat.md", "A public address that stays the same", `endpoint "turn"`, behindNAT},
	{"docs/nat.md", "Forward the ports", "table ip", forwardPorts},
	{"docs/neighbours.md", "Beside Synapse, LiveKit, Nextcloud Talk, Jitsi Meet, Prosody, ejabberd", "peers {", mediaServer},
	{"docs/operating.md", "Files, users, sockets", "[Service]", socketForGroup},
	{"docs/operating.md", "Is the configuration right?", "sudo mailturn check-config", checkInstalled},
	{"docs/operating.md", "Certificates of other programs", "#!/bin/sh", certbotHook},
	{"docs/operating.md", "Certificates of other programs", "/etc/letsencrypt/renewal-hooks/deploy/mailturn", certbotHook},
	{"docs/operating.md", "Another secret", "install -m", rotateSecret},
	{"docs/operating.md", "Another secret", "secret = [", rotateSecret},
	{"docs/operating.md", "Firewall and limits", "# mailturn asks", kernelLimits},
	{"docs/operating.md", "Firewall and limits", "sudo mailturn probe --load", loadRelay},
	{"docs/operating.md", "Firewall and limits", "accounts {", accountsBlock},
	{"docs/operating.md", "Firewall and limits", "journalctl", countUsers},
	{"docs/operating.md", "What to watch", "location", nginxInFront},
	{"docs/operating.md", "What to watch", "up{", prometheusAlerts},
	{"docs/page.md", "The page", "mailturn hash-password", pageOfDocumentation},
	{"docs/page.md", "The page", `endpoint "http"`, pageOfDocumentation},
	{"docs/port443.md", portHeading, "shared_port", onePort443},
	{"docs/port443.md", portHeading, "server", webServerMoves},
	{"docs/port443.md", portHeading, "sudo mailturn check-config", portCommands},
	{"docs/speed.md", "The IMAP proxy", "go run ./cmd/mailturn/internal/bench/main.go", benchBriefly("-runs 1 -logins 5 -trips 100 -fetch 5 -idle 100 -idle-runs 1 -settle 1s",
		"nginx stream", map[string]string{"dovecot": "dovecot-imapd", "nginx": "nginx-light libnginx-mod-stream libnginx-mod-mail", "haproxy": "haproxy"})},
	{"docs/speed.md", "The relay", "go run ./cmd/mailturn/internal/bench/main.go turn", benchBriefly("-runs 1 -clients 50 -relay 100ms -idle 100 -settle 1s -allocations 100,200",
		"coturn", map[string]string{"turnserver": "coturn"})},
	{"docs/troubleshooting.md", "Calls do not connect", "mailturn probe imaps:", probeAccount},
	{"docs/troubleshooting.md", "Calls do not connect", "mailturn probe --secret-file", probeSecret},
}

// documentPaths returns the paths of all documents, relative to this package.
func documentPaths(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"../../../../*.md", "../../../../docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no documents %s: %v", pattern, err)
		}
		paths = append(paths, found...)
	}
	return paths
}

// documents are the blocks of each document, by its name.
type documents map[string][]recipe.Block

// readDocuments reads the documents that people copy from.
func readDocuments(t *testing.T) documents {
	t.Helper()
	d := make(documents)
	for _, path := range documentPaths(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel("../../../..", path)
		if err != nil {
			t.Fatal(err)
		}
		d[name] = recipe.Blocks(string(text))
	}
	return d
}

// find returns the one block that stands under the heading and begins so.
func (d documents) find(t *testing.T, document, heading, first string) recipe.Block {
	t.Helper()
	var found []recipe.Block
	for _, b := range d[document] {
		if !b.Fenced && b.Heading == heading && strings.HasPrefix(b.Text, first) {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks under %q that begin with %q, want 1", document, len(found), heading, first)
	}
	return found[0]
}

// isOutput reports whether a block is something that a program has written, or a drawing: it is fenced, and begins with a prompt,
// holds an arrow, or is a table with spaces between its columns.
func isOutput(b recipe.Block) bool {
	return b.Fenced && (strings.HasPrefix(b.Text, "$ ") || strings.Contains(b.Text, "──▶") || table.MatchString(b.First()))
}

var table = regexp.MustCompile(`^ +\S+(?: \S+)*(?: {2,}\S+(?: \S+)*)+$`)

// unclaimed returns a line for each block that no claim is for, or more than one.
func unclaimed(d documents, claims []claim) (lines []string) {
	for document, blocks := range d {
		for _, b := range blocks {
			n := 0
			for _, c := range claims {
				if !b.Fenced && c.document == document && c.heading == b.Heading && strings.HasPrefix(b.Text, c.first) {
					n++
				}
			}
			want := 1
			if isOutput(b) {
				want = 0
			}
			if n != want {
				lines = append(lines, fmt.Sprintf("%s:%d: %d tests run the block that begins with %q, want %d", document, b.Line, n, b.First(), want))
			}
		}
	}
	return lines
}

// TestEveryRecipeIsTested checks that each block of the documents has a test.
func TestEveryRecipeIsTested(t *testing.T) {
	d := readDocuments(t)
	for _, line := range unclaimed(d, claims) {
		t.Errorf("%s; claims is the list of them", line)
	}
	for _, c := range claims {
		d.find(t, c.document, c.heading, c.first)
	}
	for i := range claims { // and notices the one that is left out
		rest := append(append([]claim(nil), claims[:i]...), claims[i+1:]...)
		if len(unclaimed(d, rest)) != 1 {
			t.Errorf("nobody would miss the test of %q in %s", claims[i].first, claims[i].document)
		}
	}
}

// TestEveryRecipeIsARow checks that docs/interop.md has a row for the heading of each claim, which its test records.
func TestEveryRecipeIsARow(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/interop.md")
	must(t, err)
	cells, err := interop.Parse(string(text))
	must(t, err)
	for _, c := range claims {
		if !slices.ContainsFunc(cells, func(cell interop.Cell) bool { return cell.Kind == interop.Recipe && cell.Name == c.heading }) {
			t.Errorf("%s: no row for the recipes under %q: .ci/matrix writes it", c.document, c.heading)
		}
	}
}

// TestRecipes follows the documents literally. Each test says what it replaces: addresses, ports, names of users and paths.
func TestRecipes(t *testing.T) {
	d := readDocuments(t)
	for _, c := range claims {
		t.Run(c.document+" "+c.first, func(t *testing.T) {
			t.Parallel()
			c.check(t, d, d.find(t, c.document, c.heading, c.first))
		})
	}
}

// worked records that a recipe does what it says. The control is what failed instead, mostly the recipe without a line.
func worked(t *testing.T, b recipe.Block, version, how, control string) {
	t.Helper()
	interop.Record(t, interop.Cell{Kind: interop.Recipe, Name: b.Heading, Version: version, How: how, Control: control})
}

// replaced returns the block with other addresses, ports, paths and names, each of which must occur in it.
func replaced(t *testing.T, b recipe.Block, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(b.Text, oldnew[i]) {
			t.Fatalf("line %d: no %q in\n%s", b.Line, oldnew[i], b.Text)
		}
	}
	return strings.NewReplacer(oldnew...).Replace(b.Text)
}

// without returns a text without its lines that contain another one. There must be at least one.
func without(t *testing.T, text, part string) string {
	t.Helper()
	rest := regexp.MustCompile(`(?m)^.*`+regexp.QuoteMeta(part)+`.*\n`).ReplaceAllString(text, "")
	if rest == text {
		t.Fatalf("no line holds %q in\n%s", part, text)
	}
	return rest
}

// checkConfig returns the output of check-config for a configuration, and whether it accepts it.
func checkConfig(t *testing.T, text string) (said string, ok bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "check-config", path).CombinedOutput()
	return string(out), err == nil
}
