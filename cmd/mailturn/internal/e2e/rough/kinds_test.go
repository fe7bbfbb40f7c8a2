package rough

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

// kind is an implementation of WebRTC.
type kind struct {
	restarts bool // whether it has ICE restarts
	// start runs one at the client of a home, which sends messages of so many bytes.
	start func(t *testing.T, h *home, size int) (*party.Party, error)
	// version returns that of the implementation.
	version func() (string, error)
}

// npmPackages is the directory of the implementations for Node, and python Debian's, which sees Debian's modules.
const npmPackages, python = "../testdata/datachannel", "/usr/bin/python3"

var kinds = map[string]kind{
	"pion":         {restarts: true, version: module("github.com/pion/webrtc/v4"), start: program(func() []string { return []string{agent} })},
	"aiortc":       {version: debian("python3-aiortc"), start: program(func() []string { return []string{python, "../testdata/aiortc_party.py"} })},
	"@roamhq/wrtc": {restarts: true, version: npm("@roamhq/wrtc"), start: node("@roamhq/wrtc")},
	// Its ICE restart of 0.25.2 allocates a relayed address and makes no checks from there.
	"werift":   {version: npm("werift"), start: node("werift")},
	"Chromium": {restarts: true, version: debian("chromium"), start: page(browser.Chromium)},
	"Firefox":  {restarts: true, version: debian("firefox-esr"), start: page(browser.Firefox)},
}

// program starts a party that is a program.
func program(words func() []string) func(t *testing.T, h *home, size int) (*party.Party, error) {
	return func(t *testing.T, h *home, size int) (*party.Party, error) {
		ctx, cancel := context.WithTimeout(t.Context(), startLimit)
		defer cancel()
		command := words()
		return party.Start(ctx, h.client.command(command[0], command[1:]...), size, rate)
	}
}

func node(name string) func(t *testing.T, h *home, size int) (*party.Party, error) {
	return program(func() []string { return []string{"node", npmPackages + "/party.mjs", name} })
}

// page starts a party that is a page in a browser.
func page(kind browser.Kind) func(t *testing.T, h *home, size int) (*party.Party, error) {
	return func(t *testing.T, h *home, size int) (*party.Party, error) {
		ctx, cancel := context.WithTimeout(t.Context(), startLimit)
		defer cancel()
		path, err := exec.LookPath(string(kind))
		if err != nil {
			return nil, err
		}
		var listener net.Listener
		err = h.client.do(func() (err error) {
			listener, err = net.Listen("tcp", "127.0.0.1:0")
			return err
		})
		if err != nil {
			return nil, err
		}
		b, err := browser.Start(ctx, browser.Options{Kind: kind, Program: path, Dir: t.TempDir(), Command: h.client.command, Listener: listener})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("console of %s:\n%s", kind, b.Console())
			}
		})
		return party.In(ctx, b, size, rate)
	}
}

// startLimit is how long a party may take to start on a busy machine.
const startLimit = 2 * time.Minute

// module is the version of a module that go.mod names.
func module(path string) func() (string, error) {
	return output("go", "list", "-m", "-f", "{{.Version}}", path)
}

// npm is the version of a package of npm.
func npm(name string) func() (string, error) {
	return output("node", "--print", fmt.Sprintf("require('./%s/node_modules/%s/package.json').version", npmPackages, name))
}

// debian is the version of a package of Debian.
func debian(name string) func() (string, error) {
	return output("dpkg-query", "--show", "--showformat", "${Version}", name)
}

func output(program string, args ...string) func() (string, error) {
	return func() (string, error) {
		out, err := exec.Command(program, args...).Output()
		return strings.TrimSpace(string(out)), err
	}
}

// required skips the test where something is missing that it needs, or fails it where nothing may be missing.
func required(t *testing.T) {
	t.Helper()
	missing := func(what string) {
		t.Helper()
		if os.Getenv("MAILTURN_E2E") != "" {
			t.Fatalf("%s is missing", what)
		}
		t.Skipf("%s is missing", what)
	}
	for program, name := range map[string]string{"ip": "iproute2", "nft": "nftables", "tayga": "tayga"} {
		if _, err := exec.LookPath(program); err != nil {
			missing("the package " + name)
		}
	}
	for name, kind := range kinds {
		if _, err := kind.version(); err != nil {
			missing(name)
		}
	}
	if os.Getuid() != 0 {
		missing("root, for network namespaces,")
	}
}
