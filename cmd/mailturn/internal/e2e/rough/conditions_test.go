package rough

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"golang.org/x/sys/unix"
)

// loss is how many packets of a hundred a lossy router drops, each way.
const loss = 2

// lose has the router lose packets. They are counted by "lost".
func (h *home) lose(t *testing.T) {
	t.Helper()
	h.router.nft(t, fmt.Sprintf(`table inet loss {
  counter lost {
  }
  chain forward {
    type filter hook forward priority 0
    numgen random mod 100 < %d counter name lost drop
  }
}
`, loss))
}

// blockUDP has the router drop UDP on the way to the client. What it drops is counted by "blocked". From the client it still gets out.
func (h *home) blockUDP(t *testing.T) {
	t.Helper()
	h.router.nft(t, `table inet block {
  counter blocked {
  }
  chain forward {
    type filter hook forward priority 0
    iifname "wan" meta l4proto udp counter name blocked drop
  }
}
`)
}

const (
	smallMTU    = 1280 // the minimum of IPv6, RFC 8200 section 5
	largePacket = 1200 // bytes; packets with one of the large messages have more
)

// shrink gives the link between client and router a small MTU. Packets that nearly have it are counted by "large".
func (h *home) shrink(t *testing.T) {
	t.Helper()
	ip(t, "-n", string(h.router), "link", "set", "lan", "mtu", fmt.Sprint(smallMTU))
	ip(t, "-n", string(h.client), "link", "set", "eth0", "mtu", fmt.Sprint(smallMTU))
	h.router.nft(t, fmt.Sprintf(`table inet packets {
  counter large {
  }
  chain forward {
    type filter hook forward priority 0
    meta length > %d counter name large
  }
}
`, largePacket))
}

// fits sends an IPv4 packet of so many bytes, which must not be fragmented, from the client to the relay.
func (h *home) fits(size int) error {
	return h.client.do(func() error {
		conn, err := net.Dial("udp4", relayIPv4+":9")
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		if err != nil {
			return err
		}
		_, err = conn.Write(make([]byte, size-20-8)) // less the headers of IPv4 and UDP
		return err
	})
}

// translate runs a NAT64 on the router: tayga, which gives the client an IPv4 address of its own, and the NAT of the router
// in front of it. Packets through it are counted by "translated".
func (h *home) translate(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "tayga.conf")
	text := fmt.Sprintf("tun-device nat64\nipv4-addr 192.168.255.1\nipv6-addr 2001:db8:%d::64\nprefix 2001:db8:64::/96\ndynamic-pool 192.168.255.0/24\ndata-dir %s\n", h.number, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.router.run(t, "tayga", "--config", config, "--mktun")
	ip(t, "-n", string(h.router), "link", "set", "nat64", "up")
	ip(t, "-n", string(h.router), "route", "add", "192.168.255.0/24", "dev", "nat64")
	ip(t, "-n", string(h.router), "route", "add", "2001:db8:64::/96", "dev", "nat64")
	h.router.nft(t, `table inet translation {
  counter translated {
  }
  chain forward {
    type filter hook forward priority 0
    oifname "nat64" counter name translated
  }
}
`)
	d, err := daemon.Start(t.Context(), h.router.command("stdbuf", "-oL", "tayga", "-d", "--config", config), "Dynamic pool")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("tayga's log:\n%s", strings.TrimSpace(d.Log()))
		}
	})
}
