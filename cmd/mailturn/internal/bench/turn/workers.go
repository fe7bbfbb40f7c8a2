package turn

import (
	"context"
	"slices"
)

// measureWorkers compares one worker with two.
func (b *bench) measureWorkers(ctx context.Context) error {
	var kinds []kind
	for i, v := range []variant{{"1 worker", "workers = 1"}, {"2 workers", "workers = 2"}} {
		kinds = append(kinds, kind{name: v.name, command: b.mailturn(v.name, b.builds[0], v.lines), host: b.network.server(i)})
	}
	b.begin("two workers against one", kinds[0].name, kinds)
	for _, name := range []string{"voice", "video", "bursts", "tls"} {
		i := slices.IndexFunc(relayRows, func(r relayRow) bool { return r.name == name })
		if err := b.measureRelay(ctx, relayRows[i], kinds); err != nil {
			return err
		}
	}
	return nil
}
