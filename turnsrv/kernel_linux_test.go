package turnsrv

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"golang.org/x/sys/unix"
)

// lackingVar is set in the environment of a process of TestKernelLacks: the name of a row, whose process this is.
const lackingVar = "TURNSRV_LACKING"

// lackingKernels are kernels, or sandboxes, without a feature that the workers use.
var lackingKernels = []struct {
	name    string
	lacks   []refusal
	workers bool   // there are some nevertheless
	log     string // the only warning or remark
}{
	{"nothing", nil, true, ""},
	{"recvmmsg", []refusal{{call: unix.SYS_RECVMMSG, errno: unix.ENOSYS}}, false, "cannot start workers"},
	{"recvmmsg in a sandbox", []refusal{{call: unix.SYS_RECVMMSG, errno: unix.EPERM}}, false, "cannot start workers"},
	{"sendmmsg", []refusal{{call: unix.SYS_SENDMMSG, errno: unix.ENOSYS}}, false, "cannot start workers"},
	{"epoll instances", []refusal{{call: unix.SYS_EPOLL_CREATE1, errno: unix.ENOSYS}}, false, "cannot start workers"},
	{"too many epoll instances", []refusal{{call: unix.SYS_EPOLL_CREATE1, errno: unix.EMFILE}}, false, "cannot start workers"},
	{"eventfd", []refusal{{call: unix.SYS_EVENTFD2, errno: unix.EINVAL}}, false, "cannot start workers"},
	{"timer slack", []refusal{{call: unix.SYS_PRCTL, errno: unix.EINVAL}}, true, ""},
	{"UDP_GRO", []refusal{lacksGRO}, true, "lacks options that save CPU time"},
	{"UDP_SEGMENT", []refusal{lacksSegment}, true, "lacks options that save CPU time"},
	{"both", []refusal{lacksGRO, lacksSegment}, true, "lacks options that save CPU time"},
	{"everything", []refusal{lacksGRO, lacksSegment, {call: unix.SYS_RECVMMSG, errno: unix.ENOSYS},
		{call: unix.SYS_SENDMMSG, errno: unix.ENOSYS}, {call: unix.SYS_EPOLL_CREATE1, errno: unix.ENOSYS},
		{call: unix.SYS_EVENTFD2, errno: unix.ENOSYS}, {call: unix.SYS_PRCTL, errno: unix.EINVAL}}, false, "cannot start workers"},
}

var (
	lacksGRO     = refusal{unix.SYS_SETSOCKOPT, unix.IPPROTO_UDP, unix.UDP_GRO, unix.ENOPROTOOPT}
	lacksSegment = refusal{unix.SYS_GETSOCKOPT, unix.IPPROTO_UDP, unix.UDP_SEGMENT, unix.ENOPROTOOPT}
)

// TestKernelLacks starts the server where a system call or socket option does not exist. The server must log this once, and calls
// must work.
func TestKernelLacks(t *testing.T) {
	if name := os.Getenv(lackingVar); name != "" {
		serveLacking(t, name)
		return
	}
	if testWorkers(t) != 0 || onPlainPion() {
		return // the processes of this test have workers of their own
	}
	for _, kernel := range lackingKernels {
		t.Run(kernel.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.count=1", "-test.run=^TestKernelLacks$")
			cmd.Env = append(os.Environ(), lackingVar+"="+kernel.name)
			if output, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// serveLacking is a process of TestKernelLacks.
func serveLacking(t *testing.T, name string) {
	for _, kernel := range lackingKernels {
		if kernel.name != name {
			continue
		}
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
		return
	}
	t.Fatalf("no row %q", name)
}

// refusal is a system call that fails with errno. A call with a level is setsockopt or getsockopt, and fails for this option.
type refusal struct {
	call          uint32
	level, option uint32
	errno         unix.Errno
}

// refuse makes system calls of this process fail permanently.
func refuse(t *testing.T, calls []refusal) {
	t.Helper()
	if len(calls) == 0 {
		return
	}
	// Offsets in struct seccomp_data, whose values are little-endian here.
	const number, argument1, argument2 = 0, 16 + 1*8, 16 + 2*8
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	give := func(result uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result}
	}
	var filter []unix.SockFilter
	for _, c := range calls {
		failure := give(unix.SECCOMP_RET_ERRNO | uint32(c.errno))
		if c.level == 0 {
			filter = append(filter, load(number), skipUnless(c.call, 1), failure)
			continue
		}
		filter = append(filter, load(number), skipUnless(c.call, 5), load(argument1), skipUnless(c.level, 3), load(argument2),
			skipUnless(c.option, 1), failure)
	}
	filter = append(filter, give(unix.SECCOMP_RET_ALLOW))
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program))); errno != 0 {
		t.Fatal(os.NewSyscallError("seccomp", errno))
	}
}
