package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// agentKind is an implementation of ICE.
type agentKind struct {
	name       string // of the implementation
	program    agentProgram
	need       func(t *testing.T)        // skips a test without the implementation
	version    func(t *testing.T) string // of the implementation
	transports []string                  // to the relay
	names      bool                      // takes no IPv6 address, only a name
	mayLose    int                       // packets or messages
	leaves     bool                      // does not end its allocation
	complaints complaints
	refused    string // what TestICEAgentsRefused sees fail, in docs/interop.md
}

// complaints are what an agent writes about a wrong secret and an untrusted certificate, if anything.
type complaints struct {
	secret, certificate string
}

const refusedWithTLS = "wrong secret; unknown CA; certificate of another name"

var agentKinds = []agentKind{
	{
		name: "aioice", program: agentScript{name: "aioice_agent.py", dies: true}, need: pythonModule("import aioice", "python3-aioice"),
		version: pythonVersion("aioice"), transports: []string{"UDP", "TCP", "TLS"},
		complaints: complaints{"401", "CERTIFICATE_VERIFY_FAILED"}, refused: refusedWithTLS,
	},
	{
		name: "aiortc", program: partyProgram{systemPython, "testdata/aiortc_party.py"}, need: pythonModule("import aiortc", "python3-aiortc"),
		version: pythonVersion("aiortc"), transports: []string{"UDP", "TCP", "TLS"}, names: true, mayLose: 2,
		complaints: complaints{"401", "CERTIFICATE_VERIFY_FAILED"}, refused: refusedWithTLS,
	},
	{
		name: "libnice in GStreamer", program: agentScript{name: "libnice_agent.py"},
		need: pythonModule(
			"import gi; gi.require_version('Gst', '1.0'); gi.require_version('Nice', '0.1'); from gi.repository import Gst; Gst.init(None); Gst.parse_launch('nicesrc ! rtpopusdepay ! opusdec ! opusenc ! nicesink')",
			"python3-gi gir1.2-gstreamer-1.0 gir1.2-nice-0.1 gstreamer1.0-tools gstreamer1.0-nice gstreamer1.0-plugins-good gstreamer1.0-plugins-base",
		),
		version: func(t *testing.T) string {
			return programVersion(t, "sh", "-c", "gst-inspect-1.0 nicesrc | grep Version")
		},
		// What it calls TLS is the pseudo-TLS handshake that Google's relays once accepted.
		transports: []string{"UDP", "TCP"}, refused: "wrong secret",
	},
	{
		// It drops unsigned answers to signed requests, so it never sees a 401 for a wrong secret.
		name: "werift", program: nodeParty("werift"), need: nodePackage("werift"),
		version: nodeVersion("werift"), transports: []string{"UDP", "TCP", "TLS"}, mayLose: 2, leaves: true, refused: refusedWithTLS,
	},
	{
		// Over TLS it trusts the authorities that are compiled into it, and no others.
		name: "@roamhq/wrtc", program: nodeParty("@roamhq/wrtc"), need: nodePackage("@roamhq/wrtc"),
		version: nodeVersion("@roamhq/wrtc"), transports: []string{"UDP", "TCP"}, mayLose: 2,
		complaints: complaints{secret: ": 401 "}, refused: "wrong secret",
	},
}

// systemPython is Debian's, which sees Debian's modules.
const systemPython = "/usr/bin/python3"

// pythonModule requires a module of systemPython, as peer requires a program.
func pythonModule(imports, debianPackages string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if out, err := exec.Command(systemPython, "-c", imports).CombinedOutput(); err != nil {
			lacks(t, "apt-get install %s: %s", debianPackages, out)
		}
	}
}

func pythonVersion(module string) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		return programVersion(t, systemPython, "-c", "import "+module+"; print("+module+".__version__)")
	}
}

// dataChannel is the directory of the packages of npm, and of the script that uses them.
const dataChannel = "testdata/datachannel"

func nodeParty(name string) partyProgram {
	return partyProgram{"node", filepath.Join(dataChannel, "party.mjs"), name}
}

func nodePackageFile(name string) string {
	return filepath.Join(dataChannel, "node_modules", filepath.FromSlash(name), "package.json")
}

// nodePackage is pythonModule for a package of npm.
func nodePackage(name string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		peer(t, "node", "nodejs")
		if _, err := os.Stat(nodePackageFile(name)); err != nil {
			lacks(t, "%v: run npm ci in cmd/mailturn/internal/e2e/%s", err, dataChannel)
		}
	}
}

func nodeVersion(name string) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		text, err := os.ReadFile(nodePackageFile(name))
		if err != nil {
			t.Fatal(err)
		}
		var p struct{ Version string }
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatal(err)
		}
		return p.Version
	}
}
