package turnsrv

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// guessLog is a log that can be read while it is written.
type guessLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *guessLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *guessLog) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// TestLogGuesses checks that each wrong password is logged with the client's address, whatever the method, up to the limit of
// MaxGuesses. Correct passwords and requests without one are not logged, and neither is anything without LogGuesses.
func TestLogGuesses(t *testing.T) {
	for _, on := range []bool{true, false} {
		var log guessLog
		config := testConfig(t)
		config.LogGuesses, config.MaxGuesses = on, 3
		config.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c, _ := udpClient(t, config)
		c.allocate()
		right := c.credential
		if n := log.count("wrong password"); n != 0 {
			t.Errorf("%v: %d lines about a right password", on, n)
		}
		c.use(credential.Credential{Username: "some body", Password: "wrong"})
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 401)
		c.want(c.request(stun.MethodRefresh), 401)
		c.want(c.request(stun.MethodCreatePermission), 401)
		c.write(c.message(stun.MethodRefresh, stun.ClassRequest, c.sign)) // is not answered
		c.use(right)
		c.want(c.request(stun.MethodRefresh), 0)
		want := 0
		if on {
			want = 3
		}
		line := `level=WARN msg="wrong password" client=` + c.conn.LocalAddr().String() + ` transport=UDP username="some body"`
		if n := log.count(line); n != want || log.count("wrong password") != want {
			t.Errorf("%v: %d lines, want %d:\n%s", on, n, want, &log.text)
		}
	}
}
