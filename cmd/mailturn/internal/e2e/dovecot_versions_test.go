package e2e

import (
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// eachDovecot runs a test with the two versions in use: 2.3 of Debian 12, and 2.4 of Debian 13, which is in a separate root
// directory. A nil root is that of this machine.
func eachDovecot(t *testing.T, test func(t *testing.T, version string, root *chroot.Root)) {
	t.Run("2.3", func(t *testing.T) {
		peer(t, "dovecot", "dovecot-imapd")
		test(t, "2.3", nil)
	})
	t.Run("2.4", func(t *testing.T) {
		root, err := chroot.Open("trixie")
		if err != nil {
			lacks(t, "%v", err)
		}
		test(t, "2.4", root)
	})
}
