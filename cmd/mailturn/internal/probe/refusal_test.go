package probe

import (
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestRefusalIsNotTheSecret checks what is said about a relay that accepts the credential but makes no allocation.
func TestRefusalIsNotTheSecret(t *testing.T) {
	for _, tt := range []struct {
		code         stun.ErrorCode
		text, action string
	}{
		{stun.CodeForbidden, "refuses this account or address (403 Forbidden): it is banned", "`mailturn ctl bans`"},
		{stun.CodeAllocationQuotaReached, "quota is used up (486)", "user_bytes_per_day, which lasts until 00:00 UTC"},
		{stun.CodeInsufficientCapacity, "out of capacity (508)", "whether the relay is draining (`mailturn ctl status`)"},
	} {
		for _, kind := range []Kind{IMAP, Line, TURN} {
			r := newRun(Options{Secret: credential.NewSecret([]byte("test secret"))})
			r.Target.Kind, r.transports = kind, []Transport{UDP}
			refused := refusal()
			refused.Code = int(tt.code)
			refused.err = &turnclient.Error{Method: stun.MethodAllocate, Code: tt.code}
			r.judgeRelays([]*attempt{refused})
			if v := r.report.judge(); v.Status != Failure || strings.Contains(v.Text, "secret") || !strings.Contains(v.Text, tt.text) || !strings.Contains(v.Action, tt.action) {
				t.Errorf("%d of kind %d: got %+v, want %q and %q", tt.code, kind, v, tt.text, tt.action)
			}
		}
	}
}
