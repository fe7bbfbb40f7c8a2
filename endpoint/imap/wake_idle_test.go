package imap

import (
	"testing"
	"time"
)

// TestWakeIdle gives a client a credential that is due in a second, and checks that the client is woken in IDLE.
func TestWakeIdle(t *testing.T) {
	config := testConfig(t)
	config.TURN.WakeIdle.V = true
	config.TURN.TTL.V = 12*time.Hour + 2*time.Second
	w := dialTLS(t, start(t, config))
	w.login()
	w.send("a GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n")
	w.until("a")
	w.send("b SELECT INBOX\r\n")
	w.until("b")
	w.send("c IDLE\r\n")
	w.expect(`\+ `)
	w.expect(`\* 0 EXISTS$`)
	w.send("DONE\r\n")
	w.expect(`c OK`)
}
