// Package chroot runs programs of another Debian release than this machine's, for tests against other versions of servers.
package chroot

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
)

// base holds a directory for each root, which .ci/debian makes.
const base = "/var/cache/mailturn-e2e"

// A Root is the root directory of a Debian release.
type Root struct{ dir string }

// Open returns a root by its name: a release such as "trixie", or a copy with further packages such as "bookworm-cyrus". The error
// says how to make it where it is missing, or what else is: entering it needs root, and the program unshare.
func Open(name string) (*Root, error) {
	dir := filepath.Join(base, name)
	if _, err := os.Stat(filepath.Join(dir, "etc/debian_version")); err != nil {
		return nil, fmt.Errorf("%s has no Debian: run .ci/debian as root, which makes it", dir)
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("entering %s needs root", dir)
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		return nil, fmt.Errorf("entering %s needs unshare: apt-get install util-linux", dir)
	}
	return &Root{dir}, nil
}

// Dir returns the root's path.
func (r *Root) Dir() string { return r.dir }

// enter makes the directory for temporary files of this machine ($1) that of the root ($0) in a mount namespace of its own, and
// becomes the command in the root, as the user and group of $2.
const enter = `mount --bind "$1" "$0$1" && mount -t proc proc "$0/proc" && root=$0 as=$2 && shift 2 && exec chroot --userspec="$as" "$root" "$@"`

// Command returns a command that runs a program in the root, as the account, or as root if that is nil. Files for temporary
// data have the same paths there as here, and the network is this machine's. The process that it starts is the program's.
func (r *Root) Command(account *user.User, program string, args ...string) (*exec.Cmd, error) {
	temporary := os.TempDir()
	if err := os.MkdirAll(filepath.Join(r.dir, temporary), 0o755); err != nil {
		return nil, err
	}
	as := "0:0"
	if account != nil {
		as = account.Uid + ":" + account.Gid
	}
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c", enter, r.dir, temporary, as, program}, args...)...), nil
}
