package imapext

import (
	"bytes"
	"testing"
)

func TestQuiet(t *testing.T) {
	f := New(Options{AllowPlaintextLogin: true})
	var toBackend, toClient bytes.Buffer
	for _, step := range []struct {
		from  string // C or S
		bytes string
		quiet bool
	}{
		{"S", "* OK rea", true}, // nothing has reached the client
		{"S", "dy\r\n", true},
		{"C", "a NO", false},
		{"C", "OP\r\n", false},
		{"S", "a OK done\r\n", true},
		{"C", "b SELECT INBOX\r\n", false},
		{"C", "c NOOP\r\n", false},
		{"S", "c OK done\r\n", false},
		{"S", "b OK done\r\n", true},
		{"C", "d APPEND INBOX {5}\r\n", false},
		{"S", "+ go on\r\n", false},
		{"C", "hello", false},
		{"C", "\r\n", false},
		{"S", "d OK done\r\n", true},
		{"C", "e IDLE\r\n", false},
		{"S", "+ idling\r\n", true},
		{"S", "* 1 FETCH (BODY[] {5}\r\nhel", false},
		{"S", "lo)\r\n", true},
		{"C", "DO", false},
		{"C", "NE\r\n", false},
		{"S", "e OK done\r\n", true},
	} {
		if step.from == "C" {
			if n, event := f.FromClient([]byte(step.bytes)); n != len(step.bytes) || event != Continue && !f.AwaitsContinuation() {
				t.Fatalf("C: %q: %d bytes consumed, event %d", step.bytes, n, event)
			}
			f.WriteBackend(&toBackend)
		} else if err := f.FromBackend([]byte(step.bytes)); err != nil {
			t.Fatal(err)
		}
		f.WriteClient(&toClient)
		if got := f.Quiet(); got != step.quiet {
			t.Errorf("%s: %q: Quiet is %v, want %v", step.from, step.bytes, got, step.quiet)
		}
	}
}

func TestBye(t *testing.T) {
	f := New(Options{})
	var toClient bytes.Buffer
	f.FromBackend([]byte("* OK ready\r\n* 1 FETCH (BODY[] {5}\r\nhel"))
	f.Bye("[UNAVAILABLE] Shutting down")
	f.WriteClient(&toClient)
	if bytes.Contains(toClient.Bytes(), []byte("BYE")) {
		t.Errorf("Bye inside a literal queued %q, want nothing", &toClient)
	}
	f.FromBackend([]byte("lo)\r\n* 2 EXISTS\r\n"))
	f.WriteClient(&toClient)
	if !bytes.HasSuffix(toClient.Bytes(), []byte("lo)\r\n* BYE [UNAVAILABLE] Shutting down\r\n")) {
		t.Errorf("no BYE after the response, or something after the BYE: %q", &toClient)
	}
	f.FromBackend([]byte("a OK done\r\n"))
	f.WriteClient(&toClient)
	if !bytes.HasSuffix(toClient.Bytes(), []byte("Shutting down\r\n")) {
		t.Errorf("something follows BYE: %q", &toClient)
	}
}
