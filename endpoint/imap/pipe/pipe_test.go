package pipe

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// readPatiently reads as a session does: until nothing has arrived, and then it waits.
func readPatiently(r io.Reader, await func(time.Duration) bool, p []byte) (int, error) {
	for {
		n, err := r.Read(p)
		if !errors.Is(err, patient.ErrNothingYet) {
			return n, err
		}
		await(0)
	}
}

// TestAwait checks that a goroutine can wait on a pipe without a buffer, as on a patient.Conn.
func TestAwait(t *testing.T) {
	ours, theirs := New(addr{})
	p := make([]byte, 3)
	if n, err := ours.Read(p); n != 0 || err != error(patient.ErrNothingYet) {
		t.Fatalf("before anything arrived: got %d, %v", n, err)
	}
	go func() {
		io.WriteString(theirs, "abcd")
		theirs.Close()
	}()
	for _, want := range []string{"abc", "d"} {
		if n, err := readPatiently(ours, ours.Await, p); err != nil || string(p[:n]) != want {
			t.Errorf("got %q, %v, want %q", p[:n], err, want)
		}
		if n, err := ours.Read(p); n != 0 || err != error(patient.ErrNothingYet) {
			t.Errorf("before another Await: got %d, %v", n, err)
		}
	}
	if n, err := readPatiently(ours, ours.Await, p); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}
