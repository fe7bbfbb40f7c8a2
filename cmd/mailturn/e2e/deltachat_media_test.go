package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/e2e/deltachat"
)

// overCore is the way of discovery in which Delta Chat core asked over IMAP, and gave the browser its ice_servers.
const overCore = "IMAP METADATA, by Delta Chat core"

// TestDeltaChatMedia makes video calls as Delta Chat's app does: core tells the browser which relays there are, and
// carries the browser's offer to the other side, and its answer back, in encrypted mail. What the browsers count and what
// the relay counts has to agree.
func TestDeltaChatMedia(t *testing.T) {
	m := newMailHost(t)
	m.serve(t, mailName, "", "")
	alice, bob := m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob")
	alice.configure(t)
	bob.configure(t)
	withBob, _ := befriend(t, alice, bob)
	core := programVersion(t, mustFind(t), "--version")
	// Firefox has no address of its own to offer without a default route, and then does not look for relays either.
	if out, err := exec.Command("ip", "-n", string(m.clients), "route", "add", "default", "via", m.addr).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	hers := startBrowser(t, browser.Chromium, m.clients, "")
	his := startBrowser(t, browser.Chromium, m.clients, "")
	hisFirefox := startBrowser(t, browser.Firefox, m.clients, "")

	for _, callee := range []participant{his, hisFirefox} {
		for transport, length := range map[string]int{"UDP": 6, "TCP": 1} { // times five seconds
			t.Run(fmt.Sprintf("%s to %s over %s", hers.kind, callee.kind, transport), func(t *testing.T) {
				hers.do(t, nil, "open", alice.browserServers(t, transport))
				callee.do(t, nil, "open", bob.browserServers(t, transport))
				placed, incoming := signal(t, alice, bob, withBob, hers, callee)
				both := []participant{hers, callee}
				for _, u := range both {
					u.do(t, nil, "connected")
				}
				for _, u := range both {
					u.do(t, nil, "received", length*framesWanted, length*audioPacketsWanted)
				}
				for _, u := range both {
					u.do(t, nil, "mute")
				}
				for _, u := range both {
					u.do(t, nil, "settled")
					r := u.report(t)
					u.do(t, nil, "close")
					r.wantRelayed(t, u.kind, strings.ToLower(transport))
					r.wantNoLoss(t, u.kind)
					r.wantAgreement(t, m.server, u.kind)
					record(t, client{u.name(), u.version, overCore + " " + core, transport, "IPv4"}, r.figures())
				}
				before := bob.Core().Now()
				alice.do(t, func(ctx context.Context) error { return alice.EndCall(ctx, placed) })
				bob.wait(t, before, "the end of the call", about("CallEnded", incoming))
			})
		}
	}
}

// mustFind returns the path of Delta Chat core, which newDeltaChat has found before.
func mustFind(t *testing.T) string {
	t.Helper()
	program, err := deltachat.Find("deltachat")
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// browserServers returns what core hands to WebRTC, as it is, or with TCP put in the place of UDP, which core does not know of.
func (u *user) browserServers(t *testing.T, transport string) []iceServer {
	t.Helper()
	c := u.relay(t)
	url := "turn:" + c.host + ":" + c.port
	if transport == "TCP" {
		url += "?transport=tcp"
	}
	return []iceServer{{URLs: url, Username: c.username, Credential: c.password}}
}

// signal has the caller's core carry the offer of her browser, and the callee's the answer of his. It returns the messages
// by which the two know the call.
func signal(t *testing.T, caller, callee *user, chat uint32, hers, his participant) (placed, incoming uint32) {
	t.Helper()
	var sdp string
	hers.do(t, &sdp, "offer", nil)
	callerNow, calleeNow := caller.Core().Now(), callee.Core().Now()
	caller.do(t, func(ctx context.Context) (err error) { placed, err = caller.PlaceCall(ctx, chat, sdp); return err })
	rings, _ := callee.wait(t, calleeNow, "the call", kind("IncomingCall"))
	his.do(t, &sdp, "answer", rings.PlaceCallInfo)
	callee.do(t, func(ctx context.Context) error { return callee.AcceptCall(ctx, rings.MsgID, sdp) })
	accepted, _ := caller.wait(t, callerNow, "the answer", about("OutgoingCallAccepted", placed))
	hers.do(t, nil, "accept", accepted.AcceptCallInfo)
	return placed, rings.MsgID
}
