package turnsrv

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"golang.org/x/sys/unix"
)

// lackingKernels are kernels, or sandboxes, without a feature that the workers use.
var lackingKernels = []struct {
	name    string
	lacks   []refusal
	workers bool   // there are some nevertheless
	log     string // the only warning or remark
}{
	{"nothing", nil, true, ""},
	{"recvmmsg", []refusal{{unix.SYS_RECVMMSG, nil, unix.ENOSYS}}, false, "cannot start workers"},
	{"recvmmsg in a sandbox", []refusal{{unix.SYS_RECVMMSG, nil, unix.EPERM}}, false, "cannot start workers"},
	{"sendmmsg", []refusal{{unix.SYS_SENDMMSG, nil, unix.ENOSYS}}, false, "cannot start workers"},
	{"epoll instances", []refusal{{unix.SYS_EPOLL_CREATE1, nil, unix.ENOSYS}}, false, "cannot start workers"},
	{"too many epoll instances", []refusal{{unix.SYS_EPOLL_CREATE1, nil, unix.EMFILE}}, false, "cannot start workers"},
	{"eventfd", []refusal{{unix.SYS_EVENTFD2, nil, unix.EINVAL}}, false, "cannot start workers"},
	{"timer slack", []refusal{{unix.SYS_PRCTL, nil, unix.EINVAL}}, true, ""},
	{"UDP_GRO", []refusal{lacksGRO}, true, "lacks options that save CPU time"},
	{"UDP_SEGMENT", []refusal{lacksSegment}, true, "lacks options that save CPU time"},
	{"both", []refusal{lacksGRO, lacksSegment}, true, "lacks options that save CPU time"},
	{"everything", []refusal{lacksGRO, lacksSegment, {unix.SYS_RECVMMSG, nil, unix.ENOSYS},
		{unix.SYS_SENDMMSG, nil, unix.ENOSYS}, {unix.SYS_EPOLL_CREATE1, nil, unix.ENOSYS},
		{unix.SYS_EVENTFD2, nil, unix.ENOSYS}, {unix.SYS_PRCTL, nil, unix.EINVAL}}, false, "cannot start workers"},
}

var (
	lacksGRO     = refusal{unix.SYS_SETSOCKOPT, arguments{1: unix.IPPROTO_UDP, 2: unix.UDP_GRO}, unix.ENOPROTOOPT}
	lacksSegment = refusal{unix.SYS_GETSOCKOPT, arguments{1: unix.IPPROTO_UDP, 2: unix.UDP_SEGMENT}, unix.ENOPROTOOPT}
)

// TestKernelLacks starts the server where a system call or socket option does not exist. The server must log this once, and calls
// must work.
func TestKernelLacks(t *testing.T) {
	for _, kernel := range lackingKernels {
		inOwnProcess(t, kernel.name, func(t *testing.T) {
			config := testConfig(t)
			config.Workers = 2
			var log bytes.Buffer
			config.Logger = slog.New(slog.NewTextHandler(&log, nil))
			peer := udp.AddrPortOf(echo(t)) // the runtime has an epoll instance from here on
			refuse(t, kernel.lacks)
			server := startServer(t, config)
			for _, network := range []string{"udp", "tcp"} {
				c := dial(t, network, map[string]netip.AddrPort{"udp": server.udp, "tcp": server.tcp}[network])
				c.allocate()
				c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer)), 0)
				for range 5 {
					for i := range 20 { // packets of one length, which would be passed together
						c.write(turntest.ChannelData(0x4000, fmt.Sprintf("%02d", i)))
					}
					for i := range 20 {
						if _, data, err := stun.ParseChannelData(c.read()); err != nil || string(data) != fmt.Sprintf("%02d", i) {
							t.Fatalf("%s: packet %d is %q, %v", network, i, data, err)
						}
					}
				}
				c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			}
			if got := len(server.started().group.Loops()); (got > 0) != kernel.workers {
				t.Errorf("%d workers", got)
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			if lines := strings.Count(log.String(), "\n"); !strings.Contains(log.String(), kernel.log) || (lines == 1) != (kernel.log != "") {
				t.Errorf("the log has %d lines:\n%s", lines, log.String())
			}
		})
	}
}
