package door

import (
	"context"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// prosodyOfTest holds the changes to prosody.cfg.lua that the tests need.
const prosodyOfTest = `
interfaces = { "127.0.0.1" }
c2s_ports = { PORT }
c2s_direct_tls_ports = {}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
s2s_ports = {}
data_path = "DIR/data"
pidfile = "DIR/data/pid"
log = { { levels = { min = "info" }, to = "console" } }

`

// guests configures anonymous logins, and no others.
const guests = "authentication = \"anonymous\"\n"

const (
	registerInProsody = "prosodyctl register " + User + " " + Domain + " " + Password + "\n"

	runProsody = `
mkdir data
chown prosody:prosody data
REGISTER
exec setpriv --reuid=prosody --regid=prosody --clear-groups prosody -F
`
)

// StartProsody runs Prosody in root, where it is installed, until Stop. It has mod_external_services, and the settings above its
// first VirtualHost. With forGuests it has no user, and whoever asks is a guest. ctx bounds only the start.
func StartProsody(ctx context.Context, root *chroot.Root, settings string, forGuests bool) (*chroot.Server, error) {
	register := registerInProsody
	if forGuests {
		register, settings = "", guests+settings
	}
	const host = "\nVirtualHost \"" + Domain + "\"\n"
	return start(ctx, root, map[string]edit{"/etc/prosody/prosody.cfg.lua": replaceOnce(
		"\nmodules_enabled = {\n", "\nmodules_enabled = {\n\"external_services\";\n",
		host, prosodyOfTest+settings+host,
	)}, chroot.Program{Name: "prosody", Script: strings.Replace(runProsody, "REGISTER", register, 1), Ready: "Activated service 'c2s'"})
}
