package turn

import (
	"context"
	"slices"
)

// Names of servers in the report.
const (
	oneWorker  = "1 worker"
	twoWorkers = "2 workers"
)

// workersRows are the loads of measureWorkers.
var workersRows = []string{"voice", "video", "bursts", "tls"}

// measureWorkers compares one worker with two.
func (b *bench) measureWorkers(ctx context.Context) error {
	var kinds []kind
	for i, v := range []variant{{oneWorker, "workers = 1"}, {twoWorkers, "workers = 2"}} {
		kinds = append(kinds, kind{name: v.name, command: b.mailturn(v.name, b.builds[0], v.lines), host: b.network.server(i)})
	}
	b.begin("two workers against one", kinds[0].name, kinds)
	for _, name := range workersRows {
		i := slices.IndexFunc(relayRows, func(r relayRow) bool { return r.name == name })
		if err := b.measureRelay(ctx, relayRows[i], kinds); err != nil {
			return err
		}
	}
	b.goals[b.table] = workersGoals()
	return nil
}
