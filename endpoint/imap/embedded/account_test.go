package embedded

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/framework/log"
)

func TestAccountBounds(t *testing.T) {
	w := dialIn(t, start(t, nil))
	if ok := w.command("CAPABILITY"); !strings.HasPrefix(ok, "c OK") {
		t.Fatal(ok)
	}
	header := "Subject: x\r\n\r\n"
	big := header + strings.Repeat("x", maxMessageSize-len(header))
	for range maxAccountSize / maxMessageSize {
		if got := w.appendMessage("INBOX", big); !strings.HasPrefix(got, "append OK") {
			t.Fatalf("got %q", got)
		}
	}
	if got := w.appendMessage("INBOX", "one more"); !strings.HasPrefix(got, "append NO [OVERQUOTA]") {
		t.Errorf("message over the quota: %q", got)
	}
	w.expectCommand("SELECT INBOX", "OK")
	w.expectCommand(`STORE 1 +FLAGS (\Deleted)`, "OK")
	w.expectCommand("EXPUNGE", "OK")
	if got := w.appendMessage("INBOX", "one more"); !strings.HasPrefix(got, "append OK") {
		t.Errorf("message after room was made: %q", got)
	}
	w.expectCommand(`STORE 1:* +FLAGS (\Deleted)`, "OK")
	w.expectCommand("EXPUNGE", "OK")

	var keywords strings.Builder
	for i := range maxKeywords {
		fmt.Fprintf(&keywords, "keyword%d ", i)
	}
	w.expectCommand("CREATE a", "OK")
	w.appendMessage("INBOX", header)
	w.expectCommand("STORE 1 +FLAGS ("+keywords.String()+"more)", "NO [LIMIT]")
	w.expectCommand("STORE 1 +FLAGS ("+strings.Repeat("x", maxKeywordLen+1)+")", "NO [LIMIT]")
	w.expectCommand("STORE 1 -FLAGS (unheard)", "OK")

	w.expectCommand("DELETE INBOX", "NO [CANNOT]")
	w.expectCommand("RENAME INBOX b", "NO [CANNOT]")
	w.expectCommand("SELECT a", "OK")
	w.expectCommand("DELETE a", "NO [INUSE]")
	w.expectCommand("RENAME a b", "NO [INUSE]")
	w.expectCommand("UNSELECT", "OK")
	w.expectCommand("RENAME a b/", "OK")
	w.expectCommand("SELECT b", "OK")
	w.expectCommand("SELECT absent", "NO")
	w.expectCommand("DELETE b", "OK")
	w.expectCommand("CREATE "+strings.Repeat("m", maxMailboxNameLen+1), "NO [LIMIT]")
	for i := range maxMailboxes - 1 {
		w.expectCommand(fmt.Sprintf("CREATE m%d", i), "OK")
	}
	w.expectCommand("CREATE one-more", "NO [LIMIT]")
}

func TestMessageCount(t *testing.T) {
	w := dialIn(t, start(t, nil))
	w.expectCommand("CREATE copies", "OK")
	w.appendMessage("INBOX", "Subject: x\r\n\r\n")
	w.expectCommand("SELECT INBOX", "OK")
	w.expectCommand("COPY 1 copies", "OK")
	w.expectCommand("SELECT copies", "OK")
	other := "INBOX"
	// Doubling by copying back and forth ends at the bound.
	for i := 0; ; i++ {
		got := w.command("COPY 1:* %s", other)
		if strings.HasPrefix(got, "c NO [OVERQUOTA]") {
			break
		}
		if !strings.HasPrefix(got, "c OK") || i > 40 {
			t.Fatalf("COPY %d: %q", i, got)
		}
		w.expectCommand("SELECT "+other, "OK")
		other = []string{"copies", "INBOX"}[i%2]
	}
	total := 0
	for _, mailbox := range []string{"INBOX", "copies"} {
		w.send("s STATUS %s (MESSAGES)\r\n", mailbox)
		line := w.expect(`\* STATUS`)
		w.until("s")
		_, count, _ := strings.Cut(strings.TrimSuffix(line, ")"), "(MESSAGES ")
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatalf("got %q", line)
		}
		total += n
	}
	if total > maxMessages || total < maxMessages/4 {
		t.Errorf("%d messages, the bound is %d", total, maxMessages)
	}
}

// TestMoveCrosswise checks that two sessions that move messages in opposite directions do not deadlock, as they would in
// imapmemserver, which locks the source mailbox and then the destination, in COPY too. A third session, in the middle of a FETCH,
// keeps one of the mailboxes locked while both begin.
func TestMoveCrosswise(t *testing.T) {
	server := start(t, nil)
	forth, back, reader := dialIn(t, server), dialIn(t, server), dialIn(t, server)
	hangs := time.AfterFunc(20*time.Second, func() {
		forth.conn.Close()
		back.conn.Close()
	})
	defer hangs.Stop()
	for _, mailbox := range []string{"a", "b"} {
		reader.expectCommand("CREATE "+mailbox, "OK")
		for range 10 {
			reader.appendMessage(mailbox, "Subject: x\r\n\r\n"+strings.Repeat("x", 1<<18))
		}
	}
	forth.expectCommand("SELECT a", "OK")
	back.expectCommand("SELECT b", "OK")
	reader.expectCommand("SELECT b", "OK")
	for range 50 {
		if t.Failed() {
			return
		}
		reader.expectCommand("NOOP", "OK")
		reader.send("r FETCH 1 BODY.PEEK[]\r\n")
		reader.expect(`\* 1 FETCH`)
		back.send("c MOVE 1 a\r\n")
		forth.send("c MOVE 1 b\r\n")
		var answered sync.WaitGroup
		for _, w := range []*wire{forth, back} {
			answered.Go(func() {
				for line := ""; !strings.HasPrefix(line, "c OK"); {
					var err error
					if line, err = w.r.ReadString('\n'); err != nil {
						t.Errorf("got %q and %v", line, err)
						return
					}
				}
			})
		}
		reader.until("r")
		answered.Wait()
	}
}

// TestDeafSession checks that a session with a selected mailbox that never asks for updates is ended before the updates it is owed
// grow without limit.
func TestDeafSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := start(t, nil)
		sessions := make(map[string]*wire)
		for _, name := range []string{"busy", "deaf", "idling"} {
			sessions[name] = dialIn(t, server)
		}
		busy := sessions["busy"]
		for range 500 {
			busy.appendMessage("INBOX", "Subject: x\r\n\r\n")
		}
		for _, w := range sessions {
			w.expectCommand("SELECT INBOX", "OK")
		}
		sessions["idling"].send("i IDLE\r\n")
		sessions["idling"].expect(`\+`)
		heard := make(chan int)
		go func() {
			n := 0
			for {
				line, err := sessions["idling"].r.ReadString('\n')
				if err != nil || strings.HasPrefix(line, "i ") {
					heard <- n
					return
				}
				n++
			}
		}()
		for range maxPendingUpdates/500 + 1 {
			synctest.Wait() // until the others do nothing: the idling session idles, and has been told of the last change
			busy.expectCommand(`STORE 1:* +FLAGS.SILENT (\Seen)`, "OK")
		}
		synctest.Wait()
		if line, err := sessions["deaf"].r.ReadString('\n'); err == nil {
			t.Errorf("the deaf session still runs: %q", line)
		}
		busy.expectCommand("NOOP", "OK")
		sessions["idling"].send("DONE\r\n")
		if n := <-heard; n < maxPendingUpdates {
			t.Errorf("the idling session got %d updates, want %d", n, maxPendingUpdates)
		}
	})
}

func TestTooManySessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := start(t, nil)
		var last *wire
		for range maxAccountSessions {
			last = dialIn(t, server)
		}
		w := dial(t, server)
		w.send("a LOGIN alice wonderland\r\n")
		if line := w.expect(`a NO \[LIMIT\]`); strings.Contains(strings.ToLower(line), "authentication") {
			t.Errorf("%q reads like a wrong password", line)
		}
		last.send("a LOGOUT\r\n")
		last.until("a")
		synctest.Wait()
		w.login()
	})
}

func TestRefusedLoginsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		w := dial(t, start(t, &logged))
		for i := range 40 { // 80 s
			w.send("a LOGIN \"al\\\"ice%d\" hunter2\r\n", i)
			w.expect(`a NO`)
		}
		if lines := strings.Count(logged.String(), "login refused"); lines < log.LinesPerMinute || lines > log.LinesPerMinute+20 {
			t.Errorf("%d lines in 80 s", lines)
		}
		for _, want := range []string{`client=127.0.0.1:4711`, `username="al\"ice0"`, "suppressed=10"} {
			if !strings.Contains(logged.String(), want) {
				t.Errorf("the log does not contain %s:\n%s", want, &logged)
			}
		}
		if strings.Contains(logged.String(), "hunter2") {
			t.Error("a password was logged")
		}
	})
}
