package turn

import (
	"context"
	"errors"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
)

// computeChecksums makes all ends of the network compute the checksums of what they send, as interfaces of real networks do. restore
// makes them leave it to interfaces that never do it, as virtual ones are by default.
func (n network) computeChecksums(ctx context.Context) (restore func(), err error) {
	set := func(value string) error {
		var errs []error
		for _, ends := range [][2]wireEnd{n.generatorEnds(), n.serverEnds()} {
			for _, e := range ends {
				errs = append(errs, generator.InNamespace(e.namespace, func() error { return runIn(ctx, nil, "ethtool -K "+e.name+" tx "+value) }))
			}
		}
		return errors.Join(errs...)
	}
	return func() { _ = set("on") }, set("off")
}
