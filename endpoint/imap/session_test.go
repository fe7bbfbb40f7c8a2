package imap

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	e := start(t, testConfig(t))
	for _, w := range []*wire{dialTLS(t, e), dialPlain(t, e)} {
		w.login()
		w.send("a GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n")
		t.Log(w.until("a"))
		w.send("b LOGOUT\r\n")
		t.Log(w.until("b"))
		w.expectEnd()
	}
}
