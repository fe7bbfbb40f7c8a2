package dict

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/dict/dictproto"
)

// TestSlowAnswer checks that an answer of many lines from a slow next server reaches a client that pauses.
func TestSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, clientEnd := net.Pipe()
		next, nextEnd := net.Pipe()
		s := &session{
			endpoint: &Endpoint{logger: slog.New(slog.DiscardHandler)},
			client:   clientEnd,
			proto:    dictproto.Session{Entries: func(string) []dictproto.Entry { return nil }, HasNext: true},

			nextReader: newLineReader(nextEnd, maxAnswerLine),
		}
		s.next.Store(&nextEnd)
		go func() {
			newLineReader(next, dictproto.MaxLine).next()
			for i := range 3 {
				time.Sleep(20 * time.Second)
				fmt.Fprintf(next, "Opriv/%d\tvalue\n", i)
			}
			io.WriteString(next, "\n")
		}()
		done := make(chan error)
		go func() {
			if _, err := s.proto.Next(hello); err != nil {
				done <- err
				return
			}
			action, err := s.proto.Next("I0\t0\tpriv/\talice")
			if err == nil {
				err = s.act(action)
			}
			clientEnd.Close()
			done <- err
		}()
		r := newLineReader(client, maxAnswerLine)
		for _, want := range []string{"Opriv/0\tvalue", "Opriv/1\tvalue", "Opriv/2\tvalue", ""} {
			time.Sleep(time.Minute)
			if line, err := r.next(); err != nil || line != want {
				t.Fatalf("got %q, %v, want %q", line, err, want)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
