package handoff

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (ours, theirs Conn) {
	t.Helper()
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if theirs, err = FromDescriptor(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}

// TestMessages passes more descriptors than one message of the system may have, in order, with a body that is longer than a packet.
func TestMessages(t *testing.T) {
	ours, theirs := pair(t)
	deadline := time.Now().Add(10 * time.Second)
	const n = 600
	var sent []int
	for range n {
		file, err := memoryFile([]byte{byte(len(sent)), byte(len(sent) >> 8)})
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, file)
	}
	defer CloseAll(sent)
	body := bytes.Repeat([]byte("state"), 1<<18)
	failed := make(chan error, 1)
	go func() {
		failed <- errors.Join(
			ours.Send(Message{Kind: "state", Name: "relay", Body: body, Descriptors: sent}, deadline),
			ours.Send(Message{Kind: "go", Names: []string{"a", "b"}}, deadline))
	}()
	m, err := theirs.Receive(deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(m.Descriptors)
	if m.Kind != "state" || m.Name != "relay" || !bytes.Equal(m.Body, body) || len(m.Descriptors) != n {
		t.Errorf("got %s %s with %d bytes and %d descriptors", m.Kind, m.Name, len(m.Body), len(m.Descriptors))
	}
	for i, fd := range m.Descriptors {
		if b, err := contents(fd, 2); err != nil || int(b[0])|int(b[1])<<8 != i {
			t.Fatalf("descriptor %d is %v, %v", i, b, err)
		}
	}
	if m, err = theirs.Receive(deadline); err != nil || m.Kind != "go" || len(m.Names) != 2 || m.Body != nil {
		t.Errorf("got %+v, %v", m, err)
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	_ = ours.Close()
	if _, err := theirs.Receive(deadline); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want io.EOF", err)
	}
}

// TestReceiveMalformed checks that what is no message is refused, and leaves no descriptor open.
func TestReceiveMalformed(t *testing.T) {
	for name, packet := range map[string]string{
		"not JSON":             "hello",
		"no body":              `{"kind":"state","length":5,"has_body":true}`,
		"negative length":      `{"kind":"state","length":-5}`,
		"too many descriptors": `{"kind":"state","descriptors":10000000}`,
		"missing descriptors":  `{"kind":"state","descriptors":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := pair(t)
			for _, b := range []string{packet, "x"} {
				if _, err := ours.Write([]byte(b)); err != nil {
					t.Fatal(err)
				}
			}
			if m, err := theirs.Receive(time.Now().Add(10 * time.Second)); err == nil {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func TestReceiveTimeout(t *testing.T) {
	_, theirs := pair(t)
	if _, err := theirs.Receive(time.Now().Add(10 * time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
