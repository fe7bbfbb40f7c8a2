package peer

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWatchLocal adds an address in a network namespace of its own and expects to be notified.
func TestWatchLocal(t *testing.T) {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with it
		result <- watchInNamespace(t)
	}()
	if err := <-result; errors.Is(err, unix.EPERM) {
		t.Skip("needs root, for a network namespace")
	} else if err != nil {
		t.Fatal(err)
	}
}

func watchInNamespace(t *testing.T) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	w, err := WatchLocal()
	if err != nil {
		return err
	}
	told := make(chan error)
	go func() {
		for {
			err := w.Next()
			told <- err
			if err != nil {
				return
			}
		}
	}()
	wait := func(want func([]netip.Prefix) bool) error {
		deadline := time.After(5 * time.Second)
		for {
			select {
			case err := <-told:
				if err != nil {
					return err
				}
			case <-deadline:
				return errors.New("no notification of the change")
			}
			local, err := LocalPrefixes()
			if err != nil {
				return err
			}
			if want(local) {
				return nil
			}
		}
	}
	if local, err := LocalPrefixes(); err != nil || len(local) > 0 {
		t.Errorf("a new namespace has %v, %v", local, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := change(fd, unix.SIOCSIFFLAGS, func(ifr *unix.Ifreq) error { ifr.SetUint16(unix.IFF_UP); return nil }); err != nil {
		return err
	}
	late := netip.MustParseAddr("8.8.4.4")
	if err := change(fd, unix.SIOCSIFADDR, func(ifr *unix.Ifreq) error { return ifr.SetInet4Addr(late.AsSlice()) }); err != nil {
		return err
	}
	has := func(local []netip.Prefix) bool { return slices.Contains(local, netip.PrefixFrom(late, 32)) }
	if err := wait(has); err != nil {
		return err
	}
	other := netip.MustParseAddr("8.8.8.8")
	if err := change(fd, unix.SIOCSIFADDR, func(ifr *unix.Ifreq) error { return ifr.SetInet4Addr(other.AsSlice()) }); err != nil {
		return err
	}
	if err := wait(func(local []netip.Prefix) bool { return !has(local) }); err != nil {
		return err
	}
	for { // drain the remaining changes
		select {
		case <-told:
			continue
		case <-time.After(50 * time.Millisecond):
		}
		break
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := <-told; err == nil {
		t.Error("Next tells of a change after Close")
	}
	return nil
}

// change changes the loopback interface, netdevice(7).
func change(fd int, request uint, set func(*unix.Ifreq) error) error {
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := set(ifr); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, request, ifr)
}

// TestDumpIsOfTheLocalTable checks that the kernel omits other tables, which may be long on a router.
func TestDumpIsOfTheLocalTable(t *testing.T) {
	messages, err := dumpLocalTable(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) == 0 {
		t.Fatal("the table is empty, and 127.0.0.0/8 should be in it")
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWROUTE || m.Data[4] != unix.RT_TABLE_LOCAL {
			t.Errorf("message of type %d about table %d", m.Header.Type, m.Data[4])
		}
	}
}
