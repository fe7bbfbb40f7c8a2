package probe

import (
	"cmp"
	"slices"
)

// judge sorts the checks and says what they come to.
func (r *Report) judge() Verdict {
	slices.SortStableFunc(r.Checks, func(a, b Check) int {
		return cmp.Compare(slices.Index(order, a.ID), slices.Index(order, b.ID))
	})
	worst := func(wanted func(c Check) bool) *Check {
		for i := range r.Checks {
			if wanted(r.Checks[i]) {
				return &r.Checks[i]
			}
		}
		return nil
	}
	if c := worst(func(c Check) bool { return c.Status == Failure && !unsafe[c.ID] }); c != nil {
		return Verdict{Failure, false, "A call would not connect: " + c.Summary, c.Action}
	}
	if c := worst(func(c Check) bool { return c.Status == Failure }); c != nil {
		return Verdict{Failure, true, "A call would connect, but the relay is not safe: " + c.Summary, c.Action}
	}
	if c := worst(func(c Check) bool { return c.Status == Warning }); c != nil {
		return Verdict{Warning, true, "A call would connect, but: " + c.Summary, c.Action}
	}
	return Verdict{Status: OK, CallConnects: true, Text: "A call would connect."}
}

// ExitStatus is that of the command: 0, or 1 when a check failed.
func (r *Report) ExitStatus() int {
	if r.Verdict.Status == Failure {
		return 1
	}
	return 0
}
