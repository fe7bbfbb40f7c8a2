// Package socket listens on Unix stream sockets: their attributes in the configuration, who may connect, and the removal of stale
// socket files.
package socket

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
	"syscall"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/handoff"
)

// maxPath is the maximum length of a socket's path in bytes: 107 on Linux.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Attributes are those of an endpoint that listens on a Unix socket. The endpoint's own schema embeds it.
type Attributes struct {
	Path  config.Value[string] `hcl:"path" type:"file" doc:"Unix stream socket to listen on. Its directory must exist. A stale socket is replaced; any other existing file is an error."`
	Mode  config.Value[string] `hcl:"mode" default:"0660" doc:"Permissions of the socket, in octal. Connecting requires write permission."`
	Owner config.Value[string] `hcl:"owner" otherwise:"the user that runs mailturn" doc:"Owner of the socket, a name or a numeric ID. Only root can set another user."`
	Group config.Value[string] `hcl:"group" otherwise:"the group that runs mailturn" doc:"Group of the socket, a name or a numeric ID. The user that runs mailturn must be a member, or root."`
}

// Config is where a socket is and who may connect to it.
type Config struct {
	Path string
	// Mode are the permission bits.
	Mode fs.FileMode
	// UID and GID are -1 for those of the process.
	UID, GID int
	// Range is the place of path in the configuration, for errors.
	Range hcl.Range
	// Sockets has the socket if another process has passed it, and passes it on. It may be nil.
	Sockets *handoff.Sockets
}

// Decode checks what can be checked without touching the socket. block is the place of the endpoint.
func Decode(s Attributes, block hcl.Range) (c Config, diags hcl.Diagnostics) {
	c = Config{Path: config.Path(s.Path), UID: -1, GID: -1, Range: s.Path.Range}
	switch {
	case !s.Path.Set:
		diags = append(diags, config.WithHint(config.Errorf(block, "Socket path is missing", "The endpoint does not know where to listen."),
			`add path = "/run/mailturn/NAME.socket"`))
	case s.Path.V == "":
		diags = append(diags, config.Errorf(s.Path.Range, "Socket path is empty", "path must name a file, which is created."))
	case len(c.Path) > maxPath:
		diags = append(diags, config.WithHint(config.Errorf(s.Path.Range, "Socket path is too long",
			"%s has %d bytes; the system allows %d.", c.Path, len(c.Path), maxPath), "choose a directory with a shorter path, such as /run/mailturn"))
	}
	bits, err := strconv.ParseUint(s.Mode.V, 8, 32)
	switch {
	case err != nil || bits > 0o777:
		diags = append(diags, config.Errorf(s.Mode.Range, "Not a file mode", "mode is %q: want octal digits up to 0777, such as 0660.", s.Mode.V))
	case bits&0o222 == 0:
		diags = append(diags, config.Errorf(s.Mode.Range, "Nobody could connect", "mode is %q: connecting requires write permission, as in 0660.", s.Mode.V))
	case bits&0o002 != 0:
		diags = append(diags, config.WithHint(config.Warnf(s.Mode.Range, "Everybody on this machine can connect",
			"mode is %q: every local user can get credentials.", s.Mode.V), "give the programs that connect a common group, and set group and mode 0660"))
	}
	c.Mode = fs.FileMode(bits) & fs.ModePerm
	var diag *hcl.Diagnostic
	if c.UID, diag = lookup(s.Owner, "user", userID); diag != nil {
		diags = append(diags, diag)
	}
	if c.GID, diag = lookup(s.Group, "group", groupID); diag != nil {
		diags = append(diags, diag)
	}
	return c, diags
}

// lookup returns the number of a user or a group, and -1 for none.
func lookup(v config.Value[string], what string, byName func(string) (string, error)) (int, *hcl.Diagnostic) {
	if !v.Set {
		return -1, nil
	}
	id, err := strconv.ParseUint(v.V, 10, 31)
	if err == nil {
		return int(id), nil
	}
	number, err := byName(v.V)
	if err == nil {
		id, err = strconv.ParseUint(number, 10, 31)
	}
	if err != nil {
		return -1, config.Errorf(v.Range, "Unknown "+what, "%q: %v.", v.V, cmp.Or(unknown(err), err))
	}
	return int(id), nil
}

// unknown returns a plain text for the errors of package os/user that mean only that.
func unknown(err error) error {
	var noUser user.UnknownUserError
	var noGroup user.UnknownGroupError
	if errors.As(err, &noUser) || errors.As(err, &noGroup) {
		return fmt.Errorf("unknown name on this machine")
	}
	return nil
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}
