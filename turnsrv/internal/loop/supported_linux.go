package loop

import (
	"errors"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// Supported returns o without what this system lacks, and an error that says what that is, or nil.
func (o Options) Supported() (Options, error) {
	var segment, coalesce error
	if o.Segment {
		segment = udp.ProbeSegment()
		o.Segment = segment == nil
	}
	if o.Coalesce {
		coalesce = udp.ProbeCoalesce()
		o.Coalesce = coalesce == nil
	}
	return o, errors.Join(segment, coalesce)
}
