//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// lacking returns the names of the capabilities that the calling thread lacks, capabilities(7). CAP_SYS_ADMIN includes CAP_BPF.
func lacking() (names []string) {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil // the system says what it forbids
	}
	has := func(capability int) bool { return data[capability/32].Effective&(1<<(capability%32)) != 0 }
	if !has(unix.CAP_BPF) && !has(unix.CAP_SYS_ADMIN) {
		names = append(names, "CAP_BPF")
	}
	if !has(unix.CAP_NET_ADMIN) {
		names = append(names, "CAP_NET_ADMIN")
	}
	return names
}

// loadError adds the probable reason to an error of the system.
func loadError(err error) error {
	var refused *ebpf.VerifierError // with EACCES as well
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("the system refuses the program: %w", err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("the system call bpf is not available, perhaps because the unit's SystemCallFilter= forbids it: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the system does not let this process load programs, perhaps because it runs in a container: %w", err)
	}
	return fmt.Errorf("load the program: %w", err)
}
