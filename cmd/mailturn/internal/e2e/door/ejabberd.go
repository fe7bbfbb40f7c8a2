package door

import (
	"context"
	"errors"
	"regexp"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// ejabberdListen replaces all listeners in ejabberd.yml.
const ejabberdListen = `listen:
  -
    port: PORT
    ip: "127.0.0.1"
    module: ejabberd_c2s
    max_stanza_size: 262144
    shaper: c2s_shaper
    access: c2s

`

// listenSection is the installed one, up to the next key of the top level.
var listenSection = regexp.MustCompile(`(?m)^listen:\n(?:[ #].*\n|\n)+`)

// runEjabberd runs Erlang as ejabberdctl does, but without a name, which would require a port and the daemon epmd, and as a process
// that receives signals.
const runEjabberd = `
mkdir data
chown ejabberd:ejabberd data ejabberd.yml
libraries=$(sed -n "s/^ERL_LIBS='\(.*\)'/\1/p" /usr/sbin/ejabberdctl)
export ERL_LIBS=$libraries ERL_INETRC=/etc/ejabberd/inetrc EJABBERD_CONFIG_PATH=/etc/ejabberd/ejabberd.yml EJABBERD_LOG_PATH=DIR/data/log HOME=DIR/data
exec setpriv --reuid=ejabberd --regid=ejabberd --init-groups erl -noinput -mnesia dir '"DIR/data"' -s ejabberd \
  -eval 'io:format("registered: ~p~n", [ejabberd_auth:try_register(<<"` + User + `">>, <<"` + Domain + `">>, <<"` + Password + `">>)])'
`

// StartEjabberd runs ejabberd in root, where it is installed, until Stop. The lines take the place of "mod_stun_disco: {}", and all
// listeners are those of the test. ctx bounds only the start.
func StartEjabberd(ctx context.Context, root *chroot.Root, lines string) (*chroot.Server, error) {
	return start(ctx, root, map[string]edit{"/etc/ejabberd/ejabberd.yml": func(text string) (string, error) {
		listen := listenSection.FindString(text)
		if listen == "" {
			return "", errors.New("no section listen")
		}
		return replaceOnce(listen, ejabberdListen, "  mod_stun_disco: {}\n", lines)(text)
	}}, chroot.Program{Name: "ejabberd", Script: runEjabberd, Ready: "registered: ok"})
}
