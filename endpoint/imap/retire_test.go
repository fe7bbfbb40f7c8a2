package imap

import "testing"

// TestRetiredIssuesNothing checks that a client that asks for a credential after another process has taken over gets BYE instead: that
// process would not know whose the credential is. Everything else goes on, and connections are still accepted.
func TestRetiredIssuesNothing(t *testing.T) {
	e := start(t, testConfig(t))
	w := dialPlain(t, e)
	w.login()
	w.send("a GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n")
	w.until("a")
	e.StopIssuing()
	before := e.credentials.Load()
	w.send("b NOOP\r\n")
	w.expect(`b OK`)
	w.send("c GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n")
	w.expect(`\* BYE \[UNAVAILABLE\]`)
	w.expectEnd()
	dialPlain(t, e).login()
	e.StopAccepting()
	if n := e.credentials.Load() - before; n != 0 {
		t.Errorf("%d responses with credentials", n)
	}
}
