package imap

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/imap/pipe"
)

// inFlight returns how many segments have been sent and not acknowledged. It does not count those that wait for room at the other
// end.
func inFlight(t *testing.T, conn net.Conn) (segments uint32) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	controlErr := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			segments = info.Unacked
		}
	})
	if controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return segments
}

// TestTakes checks that bytes in the system's buffers count as progress as long as the other end reads them.
func TestTakes(t *testing.T) {
	ours, theirs := tcpPair(t)
	backend, _ := pipe.New(&net.TCPAddr{})
	raw := patient.New(ours)
	s := &session{client: newClientConn(raw), backend: backend}
	if s.takes() {
		t.Error("takes reports progress although nothing waits")
	}
	ours.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err := error(nil); err == nil; { // until no buffer has room
		_, err = ours.Write(make([]byte, 64<<10))
	}
	for inFlight(t, ours) > 0 { // until all that the other end's buffer has room for is acknowledged
		runtime.Gosched()
	}
	before := raw.Unsent()
	if before == 0 {
		t.Fatal("nothing waits")
	}
	s.takes() // which records what waits now
	if s.takes() {
		t.Error("takes reports progress although the client reads nothing")
	}
	theirs.SetReadDeadline(time.Now().Add(10 * time.Second))
	for raw.Unsent() == before { // what is read may have to be much before TCP says so
		if _, err := io.CopyN(io.Discard, theirs, 64<<10); err != nil {
			t.Fatal(err)
		}
	}
	if !s.takes() {
		t.Error("takes reports no progress although the client reads")
	}
}
