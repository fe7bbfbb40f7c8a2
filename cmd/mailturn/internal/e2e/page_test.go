package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

const (
	pagePassword = "correct horse battery staple"
	// pageHash was made by doveadm pw -s BLF-CRYPT -r 5.
	pageHash = "$2y$05$YTjpjiGjvJM0XFPNSvSAMOFA.G/lv0CWMVpMqZuZX35CPqtc3VpxS"
	pageURL  = "https://" + relayName + ":8443/"
)

// visitor is a browser in a namespace, as one of its users drives it.
type visitor struct {
	*browser.Remote
	kind browser.Kind
}

func openBrowser(t *testing.T, kind browser.Kind, ns namespace, certs certificates) visitor {
	t.Helper()
	program, err := kind.Program()
	if err != nil {
		lacks(t, "%v: apt-get install %s", err, kind)
	}
	r, err := browser.Open(t.Context(), browser.Options{
		Kind: kind, Program: program, Dir: t.TempDir(), CA: certs.ca, Certutil: peer(t, "certutil", "libnss3-tools"), Command: ns.command,
		Dial: func(network, address string) (net.Conn, error) { return ns.dial(t, network, address), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return visitor{r, kind}
}

func (v visitor) visit(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	if err := v.Visit(ctx, url); err != nil {
		t.Fatalf("%s: %v", v.kind, err)
	}
}

func (v visitor) wait(t *testing.T, condition string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*callLimit)
	defer cancel()
	if err := v.Wait(ctx, condition); err != nil {
		t.Fatalf("%s: %v\nThe page says:\n%s", v.kind, err, v.text(t, "document.body.innerText"))
	}
}

func (v visitor) text(t *testing.T, expression string) (text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	if err := v.Evaluate(ctx, &text, "String("+expression+")"); err != nil {
		t.Fatalf("%s: %v", v.kind, err)
	}
	return text
}

// look shows the page in a window of a width, in a color scheme. It checks with axe-core that the page is accessible, and writes a
// screenshot into the directory in MAILTURN_SCREENSHOTS, if that is set.
func (v visitor) look(t *testing.T, name string, width int, dark bool) {
	t.Helper()
	png, err := v.Screenshot(t.Context(), width, dark)
	if err != nil {
		t.Fatalf("%s: screenshot %s: %v", v.kind, name, err)
	}
	if dir := os.Getenv("MAILTURN_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	axe, err := os.ReadFile("browser/axe/node_modules/axe-core/axe.min.js")
	if err != nil {
		lacks(t, "%v: run npm ci in cmd/mailturn/internal/e2e/browser/axe", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*callLimit)
	defer cancel()
	var violations []string
	err = v.Evaluate(ctx, &violations, fmt.Sprintf(`(() => { %s; return axe.run().then((found) =>
		found.violations.map((v) => v.id + ": " + v.help + ": " + v.nodes.map((n) => n.html + " " + n.failureSummary).join("; "))) })()`, axe))
	if err != nil {
		t.Fatalf("%s: axe-core on %s: %.300s", v.kind, name, err.Error())
	}
	for _, violation := range violations {
		t.Errorf("%s: %s", name, violation)
	}
}

// login logs in with the form.
func (v visitor) login(t *testing.T) {
	t.Helper()
	v.visit(t, pageURL)
	v.wait(t, `document.getElementById("password")`)
	v.text(t, fmt.Sprintf(`(document.getElementById("password").value = %q, document.querySelector("form").submit())`, pagePassword))
	v.wait(t, `document.querySelector("nav") && document.readyState === "complete"`)
}

// startPage starts mailturn with a page and more blocks in the relay's namespace, in which the relay's name has addresses of both families.
func (n callNetwork) startPage(t *testing.T, certs certificates, blocks ...string) *server {
	t.Helper()
	hosts := "127.0.0.1 localhost\n::1 localhost\n" + relayIPv4 + " " + relayName + "\n" + relayIPv6 + " " + relayName + "\n"
	for _, ns := range []namespace{n.alice, n.relay, n.bob} {
		if err := os.WriteFile(filepath.Join("/etc/netns", string(ns), "hosts"), []byte(hosts), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := configureNetwork(t, certs.block(), "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, `
endpoint "http" "page" {
  listen        = ["https://%s:8443", "https://[%s]:8443"]
  page_password = %q
}
%s`, relayIPv4, relayIPv6, pageHash, strings.Join(blocks, ""))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return n.startRelay(t, path)
}

// TestCallTest runs the call test in two browsers: the operator's, which is logged in, and one with a link.
func TestCallTest(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startPage(t, certs)
	operator := openBrowser(t, browser.Chromium, n.alice, certs)
	guest := openBrowser(t, browser.Firefox, n.bob, certs)

	operator.visit(t, pageURL)
	operator.look(t, "login", 800, false)
	operator.login(t)
	operator.visit(t, pageURL+"call-test")
	operator.text(t, `document.getElementById("make").click()`)
	operator.wait(t, `document.getElementById("link").value`)
	link := operator.text(t, `document.getElementById("link").value`)
	if !strings.HasPrefix(link, pageURL+"call-test#") {
		t.Fatalf("the link is %q", link)
	}

	guest.visit(t, link)
	for _, v := range []visitor{operator, guest} {
		v.text(t, `document.getElementById("start").click()`)
		v.wait(t, `!document.getElementById("verdict").hidden`)
		if got := v.text(t, `document.getElementById("headline").textContent`); got != "Calls work from here" {
			t.Errorf("%s: the verdict is %q", v.kind, got)
		}
		report := v.text(t, `document.getElementById("text").value`)
		t.Logf("%s:\n%s", v.kind, report)
		for _, way := range []string{"UDP, IPv4", "UDP, IPv6", "TCP, IPv4", "TCP, IPv6", "TLS"} {
			if !strings.Contains(report, way+": Works\n") {
				t.Errorf("%s: %s does not work", v.kind, way)
			}
		}
	}
	operator.look(t, "call-test", 900, false)
	operator.look(t, "call-test-dark", 900, true)
	operator.look(t, "call-test-phone", 390, false)
	guest.look(t, "call-test-firefox", 900, false)
	if problems := operator.Problems(); len(problems) > 0 {
		t.Errorf("chromium complains:\n%s", strings.Join(problems, "\n"))
	}
	if log := s.stderr.String(); strings.Contains(log, link[strings.Index(link, "#")+1:]) {
		t.Error("the link is in the log")
	}

	nft := n.bob.command(peer(t, "nft", "nftables"), "-f", "-")
	nft.Stdin = strings.NewReader("table inet page { chain output { type filter hook output priority 0; meta l4proto udp drop; }; }")
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	guest.visit(t, pageURL+"login")
	guest.visit(t, link)
	guest.text(t, `document.getElementById("start").click()`)
	guest.wait(t, `document.getElementById("headline").textContent === "Calls connect from here, but not over UDP"`)
	t.Logf("without UDP:\n%s", guest.text(t, `document.getElementById("text").value`))
	guest.look(t, "call-test-no-udp", 900, false)

	guest.visit(t, pageURL+"login")
	guest.visit(t, pageURL+"call-test#"+strings.Repeat("A", 32))
	guest.text(t, `document.getElementById("start").click()`)
	guest.wait(t, `document.getElementById("headline").textContent === "This link does not work any more"`)
}

// TestStatusPage opens the page while a user whose name is markup has a relayed address, and a certificate is in use. Names must be
// shown as text, and plots must be drawn and have tables.
func TestStatusPage(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startPage(t, certs)
	v := openBrowser(t, browser.Chromium, n.alice, certs)
	v.visit(t, pageURL+"login")
	v.text(t, `(document.getElementById("password").value = "wrong", document.querySelector("form").submit())`)
	v.wait(t, `document.querySelector("[role=alert]")?.textContent === "The password is wrong."`)
	s.waitFor(t, s.stderr, "page: wrong password")
	v.login(t)

	const name = `<img src=x onerror="document.title='broken'">`
	username := fmt.Sprintf("%d:%s", time.Now().Add(time.Hour).Unix(), name)
	v.text(t, fmt.Sprintf(`(window.call = new RTCPeerConnection({
		iceServers: [{urls: "turn:%s:3478", username: %q, credential: %q}], iceTransportPolicy: "relay",
	}), call.createDataChannel("x"), call.setLocalDescription())`, relayIPv4, username, mint(username)))
	v.wait(t, fmt.Sprintf(`[...document.querySelectorAll("#sessions th")].some((e) => e.textContent === %q)`, name))
	v.wait(t, `document.querySelectorAll("#warnings tr").length >= 1 && document.querySelector("#warnings").textContent.includes("page: wrong password")`)
	v.wait(t, `document.getElementById("headline").textContent === "All is well" || document.getElementById("headline").textContent === "A certificate expires soon"`)
	v.wait(t, `document.querySelectorAll("#plots canvas").length === 5 && document.querySelectorAll("#plots details tbody tr").length >= 10`)
	if got := v.text(t, `document.querySelectorAll("#certificates tr").length`); got != "3" {
		t.Errorf("%s certificates, want those of turn, imap and http", got)
	}
	v.text(t, `document.querySelector("input[value=day]").click()`)
	v.wait(t, `document.querySelectorAll("#plots canvas").length === 5`)
	v.text(t, `document.querySelector("input[value=hour]").click()`)
	if got := v.text(t, "document.title"); got != "Status · mailturn" {
		t.Errorf("the title is %q", got)
	}
	// What assistive technology needs: a name for each table and plot, and headings for the cells.
	if got := v.text(t, `document.querySelectorAll("table:not([aria-labelledby]):not(details table), tbody tr:not(:has(th[scope=row])), figure:not(:has(figcaption)), input:not([id], label input)").length`); got != "0" {
		t.Errorf("%s elements lack a name or a heading", got)
	}
	if problems := v.Problems(); len(problems) > 0 {
		t.Errorf("chromium complains:\n%s", strings.Join(problems, "\n"))
	}
	if os.Getenv("MAILTURN_SCREENSHOTS") != "" {
		guest := openBrowser(t, browser.Firefox, n.bob, certs)
		guest.login(t)
		for range 4 {
			guest.visit(t, pageURL+"call-test")
			guest.text(t, `document.getElementById("start").click()`)
			guest.wait(t, `!document.getElementById("verdict").hidden`)
		}
		guest.visit(t, pageURL)
		guest.wait(t, `document.querySelectorAll("#plots canvas").length === 5`)
		guest.look(t, "status-firefox", 1000, false)
	}
	v.look(t, "status", 1000, false)
	v.look(t, "status-dark", 1000, true)
	v.look(t, "status-phone", 390, false)

	v.text(t, `document.querySelector("form").submit()`) // logs out
	v.wait(t, `document.getElementById("password")`)
	var status int
	if err := v.Evaluate(t.Context(), &status, `fetch("status").then((r) => r.status)`); err != nil || status != http.StatusUnauthorized {
		t.Errorf("after the logout the state has status %d, error %v", status, err)
	}
}

// pageOfDocumentation stores the hash of a password and serves the page as the documentation says.
func pageOfDocumentation(t *testing.T, d documents, b recipe.Block) {
	hash, block := d.find(t, "docs/page.md", b.Heading, "mailturn hash-password"), d.find(t, "docs/page.md", b.Heading, `endpoint "http"`)
	file, more, state := filepath.Join(t.TempDir(), "page.hash"), freePorts(t), t.TempDir()
	cmd := exec.Command("sh", "-ec", replaced(t, hash, "mailturn hash", binary+" hash", " -g mailturn", "", "/etc/mailturn/page.hash", file))
	cmd.Stdin = strings.NewReader(pagePassword + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := configure(t, freePorts(t), "", "")
	address := fmt.Sprintf("127.0.0.1:%d", more.turn)
	configureDoor(t, path, replaced(t, block, "/etc/mailturn/page.hash", file, "turn.example.org:8443", address))
	start(t, state, "--config", path)
	client := clientOf(t, state)
	if status, body := ask(t, client, "https://"+address+"/login"); status != http.StatusOK || !strings.Contains(body, "password") {
		t.Errorf("got status %d: %s", status, body)
	}
	for password, cookies := range map[string]int{pagePassword: 1, "another password": 0} {
		response, err := client.PostForm("https://"+address+"/login", url.Values{"password": {password}})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := len(response.Cookies()); got != cookies {
			t.Errorf("status %d and %d cookies with the password %q, want %d", response.StatusCode, got, password, cookies)
		}
	}
	worked(t, b, mailturnAlone, "login with the password whose hash the file has", "another password")
}
