package origin

import (
	"net"
	"testing"
)

func TestAddrPort(t *testing.T) {
	mapped := &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.7"), Port: 5}
	if got := addrPort(mapped).String(); got != "192.0.2.7:5" {
		t.Errorf("mapped address is %s", got)
	}
}
