package turn

import (
	"errors"

	"github.com/mailturn/mailturn/turnsrv"
)

// Family is the value of default_family.
type Family turnsrv.DefaultFamily

// UnmarshalText accepts one of three words.
func (f *Family) UnmarshalText(text []byte) error {
	switch string(text) {
	case "prefer-ipv4":
		*f = Family(turnsrv.PreferIPv4)
	case "ipv4":
		*f = Family(turnsrv.OnlyIPv4)
	case "client":
		*f = Family(turnsrv.ClientFamily)
	default:
		return errors.New(`want "prefer-ipv4", "ipv4" or "client"`)
	}
	return nil
}
