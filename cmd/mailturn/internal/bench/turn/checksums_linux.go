package turn

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// computeChecksums makes both ends of the network compute the checksums of what they send, as interfaces of real networks do. restore
// makes them leave it to interfaces that never do it, as virtual ones are by default.
func (n network) computeChecksums(ctx context.Context) (restore func(), err error) {
	set := func(value string) error {
		var errs []error
		for _, command := range []string{"ethtool -K " + generatorEnd + " tx " + value, strings.Join(n.run, " ") + " ethtool -K " + serverEnd + " tx " + value} {
			words := strings.Fields(command)
			if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w\n%s", command, err, out))
			}
		}
		return errors.Join(errs...)
	}
	return func() { _ = set("on") }, set("off")
}
