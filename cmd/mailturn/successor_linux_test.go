package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/handoff"
)

// TestSuccessorEndsEarly checks that an upgrade fails with the reason when the new process ends before it has read anything, whether it
// has said why or not.
func TestSuccessorEndsEarly(t *testing.T) {
	for _, tt := range []struct{ name, says, want string }{
		{"without a word", "", "the new process has ended"},
		{"with an error", "no room", "the new process: no room"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, theirs, err := handoff.Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if tt.says != "" {
				fd, err := syscall.Dup(int(theirs.Fd()))
				if err != nil {
					t.Fatal(err)
				}
				other, err := handoff.FromDescriptor(fd)
				if err != nil {
					t.Fatal(err)
				}
				if err := other.Send(handoff.Message{Kind: messageFailed, Name: tt.says}, time.Now().Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				other.Close()
			}
			theirs.Close()
			s := successor{conn: conn}
			if err := s.send(handoff.Message{Kind: messageSockets}, time.Now().Add(time.Second)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
