package turn

import (
	"errors"

	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Family is the value of default_family.
type Family relay.DefaultFamily

// UnmarshalText accepts one of three words.
func (f *Family) UnmarshalText(text []byte) error {
	switch string(text) {
	case "prefer-ipv4":
		*f = Family(relay.PreferIPv4)
	case "ipv4":
		*f = Family(relay.OnlyIPv4)
	case "client":
		*f = Family(relay.ClientFamily)
	default:
		return errors.New(`want "prefer-ipv4", "ipv4" or "client"`)
	}
	return nil
}
