package turn

import (
	"net/netip"
	"testing"
)

func TestLasting(t *testing.T) {
	address := func(prefix string, link uint32, flags string) interfaceAddress {
		return interfaceAddress{netip.MustParsePrefix(prefix), link, flags == "temporary", flags != "unusable"}
	}
	tests := []struct {
		name string
		all  []interfaceAddress
		want string
	}{
		{"of the same prefix", []interfaceAddress{
			address("2001:db8:2::5/64", 2, ""), address("2001:db8:1::99/64", 2, "temporary"), address("2001:db8:1::5/64", 2, ""),
		}, "2001:db8:1::5"},
		{"of another prefix", []interfaceAddress{
			address("2001:db8:1::99/64", 2, "temporary"), address("fd00::5/64", 2, ""), address("2001:db8:2::5/64", 2, ""), address("2001:db8:3::5/64", 2, ""),
		}, "2001:db8:2::5"},
		{"not yet or no longer", []interfaceAddress{
			address("2001:db8:1::99/64", 2, "temporary"), address("2001:db8:1::5/64", 2, "unusable"), address("2001:db8:2::5/64", 2, ""),
		}, "2001:db8:2::5"},
		{"another temporary one", []interfaceAddress{
			address("2001:db8:1::98/64", 2, "temporary"), address("2001:db8:1::99/64", 2, "temporary"),
		}, "2001:db8:1::99"},
		{"of another interface", []interfaceAddress{
			address("2001:db8:1::99/64", 2, "temporary"), address("2001:db8:1::5/64", 3, ""),
		}, "2001:db8:1::99"},
		{"lasts itself", []interfaceAddress{
			address("2001:db8:1::5/64", 2, ""), address("2001:db8:1::99/64", 2, ""),
		}, "2001:db8:1::99"},
		{"unknown", nil, "2001:db8:1::99"},
	}
	for _, test := range tests {
		if got := lasting(netip.MustParseAddr("2001:db8:1::99"), test.all); got != netip.MustParseAddr(test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}
