package probe

import (
	"cmp"
	"slices"
	"strings"
)

// judge sorts the checks and sets the verdict. It mentions what was not tested, unless a call would not connect.
func (r *Report) judge() Verdict {
	slices.SortStableFunc(r.Checks, func(a, b Check) int {
		return cmp.Compare(slices.Index(order, a.ID), slices.Index(order, b.ID))
	})
	v := r.answer()
	v.NotTested = r.Verdict.NotTested
	if v.CallConnects && len(v.NotTested) > 0 {
		v.Text += " Not tested: " + strings.Join(v.NotTested, "; ") + "."
	}
	return v
}

// answer returns the verdict of the sorted checks.
func (r *Report) answer() Verdict {
	worst := func(wanted func(c Check) bool) *Check {
		for i := range r.Checks {
			if wanted(r.Checks[i]) {
				return &r.Checks[i]
			}
		}
		return nil
	}
	if c := worst(func(c Check) bool { return c.Status == Failure && !unsafe[c.ID] }); c != nil {
		return Verdict{Status: Failure, Text: "A call would not connect: " + c.Summary, Action: c.Action}
	}
	if c := worst(func(c Check) bool { return c.Status == Failure }); c != nil {
		return Verdict{Status: Failure, CallConnects: true, Text: "A call would connect, but the relay is not safe: " + c.Summary, Action: c.Action}
	}
	if c := worst(func(c Check) bool { return c.Status == Warning }); c != nil {
		return Verdict{Status: Warning, CallConnects: true, Text: "A call would connect, but: " + c.Summary, Action: c.Action}
	}
	if r.insideOnly {
		return Verdict{Status: Warning, CallConnects: true, Text: "A call between two users of this server would connect.",
			Action: "Probe from a machine outside the relay's network: only that tests its firewall."}
	}
	return Verdict{Status: OK, CallConnects: true, Text: "A call would connect."}
}

// ExitStatus returns the exit status of the command: 0, or 1 if a check failed.
func (r *Report) ExitStatus() int {
	if r.Verdict.Status == Failure {
		return 1
	}
	return 0
}
