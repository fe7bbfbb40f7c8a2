package turn

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PortRange is a range of UDP ports, including both ends.
type PortRange struct{ Min, Max uint16 }

// UnmarshalText parses MIN-MAX. Ports of well-known services are refused: RFC 8656 section 7.2 asks for 49152-65535.
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, found := strings.Cut(string(text), "-")
	low, errLow := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	high, errHigh := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	switch {
	case !found || errLow != nil || errHigh != nil:
		return errors.New(`want MIN-MAX, such as "49152-65535"`)
	case low > high:
		return errors.New("the start of the range is above its end: swap the two numbers")
	case low < 1024:
		return errors.New("the range includes ports of well-known services: want 1024 or more")
	}
	r.Min, r.Max = uint16(low), uint16(high)
	return nil
}

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.Min, r.Max) }
