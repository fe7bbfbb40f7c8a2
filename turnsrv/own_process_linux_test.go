package turnsrv

import (
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// ownProcessVar is set in the environment of a process of inOwnProcess: the name of the subtest that it runs.
const ownProcessVar = "TURNSRV_SUBTEST"

// inOwnProcess runs f as a subtest in another process, so that f may change what it cannot change back.
func inOwnProcess(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	inProcess(t, name, 0, f)
}

// inOwnNetwork is like inOwnProcess. The other process has a network of its own, in which only the loopback device exists. It requires
// root.
func inOwnNetwork(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil && os.Getenv("MAILTURN_E2E") == "" {
		t.Skip("requires ip(8) of iproute2")
	}
	if os.Geteuid() != 0 {
		t.Skip("requires root, for a network of its own")
	}
	inProcess(t, name, unix.CLONE_NEWNET, func(t *testing.T) {
		turntest.IP(t, "link", "set", "lo", "up")
		f(t)
	})
}

func inProcess(t *testing.T, name string, flags uintptr, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		if subtest := os.Getenv(ownProcessVar); subtest != "" {
			if subtest == t.Name() {
				f(t)
			}
			return
		}
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.count=1", "-test.timeout=1m", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		cmd.Env = append(os.Environ(), ownProcessVar+"="+t.Name())
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	})
}

// refusal is a system call that fails with errno if it has these arguments.
type refusal struct {
	call      uint32
	arguments arguments
	errno     unix.Errno
}

// arguments are the lower 32 bits of arguments of a system call, by their number.
type arguments map[int]uint32

// refuse makes system calls of this process fail permanently.
func refuse(t *testing.T, calls []refusal) {
	t.Helper()
	if len(calls) == 0 {
		return
	}
	// Offsets in struct seccomp_data, seccomp(2), whose values are little-endian here.
	const number, argument0 = 0, 16
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(value uint32, skip int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: uint8(skip)}
	}
	give := func(result uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result}
	}
	var filter []unix.SockFilter
	for _, c := range calls {
		left := 2*len(c.arguments) + 1 // instructions until the next call
		filter = append(filter, load(number), skipUnless(c.call, left))
		for i, value := range c.arguments {
			left -= 2
			filter = append(filter, load(argument0+8*uint32(i)), skipUnless(value, left))
		}
		filter = append(filter, give(unix.SECCOMP_RET_ERRNO|uint32(c.errno)))
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
