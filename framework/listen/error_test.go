package listen

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

func TestError(t *testing.T) {
	place := hcl.Range{Filename: "maddy.conf", Start: hcl.Pos{Line: 4}}
	bind := func(errno error) error {
		return &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", errno)}
	}
	for _, tt := range []struct {
		name  string
		place hcl.Range
		err   error
		want  string
	}{
		{"in use", place, bind(syscall.EADDRINUSE), "listen on tcp://0.0.0.0:143 (maddy.conf:4): bind: address already in use: another program uses this port"},
		{"not allowed", place, bind(syscall.EACCES), "listen on tcp://0.0.0.0:143 (maddy.conf:4): bind: permission denied: ports below 1024 require root"},
		{"not here", place, bind(syscall.EADDRNOTAVAIL), "listen on tcp://0.0.0.0:143 (maddy.conf:4): bind: cannot assign requested address: this machine does not have"},
		{"no place", hcl.Range{}, bind(syscall.EMFILE), "listen on tcp://0.0.0.0:143: bind: too many open files"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Error(Addr{"tcp", "0.0.0.0", 143}, tt.place, tt.err)
			if !strings.HasPrefix(got.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s…", got, tt.want)
			}
			if !errors.Is(got, errors.Unwrap(errors.Unwrap(tt.err))) {
				t.Error("the cause is lost")
			}
		})
	}
}
