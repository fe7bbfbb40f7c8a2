package coturn

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/mailturn/mailturn/framework/config"
)

// on returns the value of a directive that is on or off. Without a value, it is on. coturn looks at the first character, or at the
// whole word; the error is for values with which coturn does not start.
func (d Directive) on() (bool, error) {
	const yes, no = "yYtT123456789", "nNfF0"
	switch v := d.Value; {
	case v == "" || strings.ContainsRune(yes, rune(v[0])) || slices.Contains([]string{"on", "On", "ON"}, v):
		return true, nil
	case strings.ContainsRune(no, rune(v[0])) || slices.Contains([]string{"off", "Off", "OFF"}, v):
		return false, nil
	}
	return false, errors.New("want on or off")
}

// integer returns the number at the beginning of the value, and whether anything other than a comment follows. coturn reads only
// the digits, and guides have lines such as user-quota=12 # 4 streams per video call.
func (d Directive) integer() (n int64, tail, ok bool) {
	text, _, _ := strings.Cut(d.Value, "#")
	text = strings.TrimSpace(text)
	end := 0
	for i, r := range text {
		if sign := i == 0 && (r == '-' || r == '+'); !sign && (r < '0' || r > '9') {
			break
		}
		end = i + 1
	}
	n, err := strconv.ParseInt(text[:end], 10, 64)
	return n, end < len(text), err == nil
}

// number translates a number within bounds, of which the last one counts.
func (i *Import) number(field *Directive, d Directive, low, high int64) error {
	n, tail, ok := d.integer()
	if !ok || n < low || n > high {
		return fmt.Errorf("want a number from %d to %d", low, high)
	}
	if tail {
		i.remark(Doubtful, d, fmt.Sprintf("the number is %d: what follows is ignored, as in coturn before 4.13", n))
	}
	d.Value = strconv.FormatInt(n, 10)
	i.set(field, d)
	return nil
}

// text translates a value of which coturn keeps every character, and so does mailturn.
func (i *Import) text(d Directive) error {
	if err := config.CheckText(d.Value); err != nil {
		return err
	}
	if strings.HasSuffix(d.Value, ";") {
		i.remark(Doubtful, d, "coturn treats the trailing semicolon as part of it, and so does mailturn")
	}
	return nil
}

// address parses an IP address, with or without brackets. An IPv4-mapped IPv6 address becomes an IPv4 address.
func address(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errors.New("not an IP address")
	}
	return addr.Unmap(), nil
}

// mapped contains the IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2), to which mailturn never relays.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// network parses an address, a range FIRST-LAST or a prefix.
func network(text string) (*netipx.IPSet, error) {
	var set netipx.IPSetBuilder
	if prefix, err := netip.ParsePrefix(text); err == nil {
		set.AddPrefix(prefix)
		return set.IPSet()
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, errLow := netip.ParseAddr(first)
	high, errHigh := netip.ParseAddr(last)
	if errLow != nil || errHigh != nil || low.Zone()+high.Zone() != "" {
		return nil, errors.New("not an IP address, nor a range of two")
	}
	r := netipx.IPRangeFrom(low, high)
	if !r.IsValid() {
		return nil, errors.New("the range ends before it begins")
	}
	set.AddRange(r)
	return set.IPSet()
}
