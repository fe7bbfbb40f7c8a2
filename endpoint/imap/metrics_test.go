package imap

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMetrics checks that only responses with a credential are counted as such.
func TestMetrics(t *testing.T) {
	e := start(t, testConfig(t))
	w := dialTLS(t, e)
	w.login()
	w.send("a GETMETADATA \"\" (/shared/vendor/deltachat/turn /shared/vendor/deltachat/turns)\r\n" +
		"b GETMETADATA \"\" /shared/comment\r\nc GETMETADATA (DEPTH infinity) \"\" /shared\r\n")
	w.until("c")
	const want = `
# HELP mailturn_imap_connections Live connections, including those still in the handshake.
# TYPE mailturn_imap_connections gauge
mailturn_imap_connections 1
# HELP mailturn_imap_credentials_total Responses to GETMETADATA with a TURN credential.
# TYPE mailturn_imap_credentials_total counter
mailturn_imap_credentials_total 2
# HELP mailturn_imap_sessions Live sessions.
# TYPE mailturn_imap_sessions gauge
mailturn_imap_sessions 1
`
	if err := testutil.CollectAndCompare(e.Collector(), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
