package turn

import "github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"

// gatheringOff is the variant of mailturn that does not wait for more packets.
const gatheringOff = "gathering off"

// goals are the multiples of coturn's CPU time that mailturn is to need at most.
func goals() (goals []report.Goal) {
	for _, g := range []struct {
		column    string
		installed float64
		off       float64 // without gathering
	}{
		{"CPU us/cycle", 0.40, 0.40},
		{"voice CPU us/packet", 0.70, 0.92},
		{"video CPU us/packet", 0.70, 0.95},
		{"bursts CPU us/packet", 0.60, 0.80},
		{"flow CPU us/packet", 0.75, 0.80},
		{"flows CPU us/packet", 0.75, 0.75},
		{"tcp CPU us/packet", 0.80, 0.95},
		{"tls CPU us/packet", 0.85, 1.00},
		{"both CPU us/packet", 0.50, 0.60},
	} {
		goals = append(goals,
			report.Goal{Column: g.column, Name: mailturnName, Beside: coturnName, Bound: g.installed},
			report.Goal{Column: g.column, Name: gatheringOff, Beside: coturnName, Bound: g.off})
	}
	return goals
}

// workersGoals are the goals of two workers beside one.
func workersGoals() (goals []report.Goal) {
	for _, row := range workersRows {
		goals = append(goals, report.Goal{Column: row + " CPU us/packet", Name: twoWorkers, Beside: oneWorker, Bound: 1.1})
	}
	return goals
}
