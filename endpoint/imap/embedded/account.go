package embedded

import (
	"fmt"
	"io"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// Limits on what one account of the embedded server keeps in memory.
const (
	maxMessageSize     = 16 << 20 // bytes; APPENDLIMIT (RFC 7889)
	maxAccountSize     = 64 << 20 // bytes, all messages
	maxMessages        = 10000
	maxMailboxes       = 100
	maxMailboxNameLen  = 255 // bytes
	maxKeywords        = 64
	maxKeywordLen      = 64
	maxPendingUpdates  = 100_000 // of a session that has a mailbox selected and does not ask for updates
	maxAccountSessions = 100
)

// An account is one user of the embedded server: imapmemserver's store, within bounds.
type account struct {
	user *imapmemserver.User

	// copying is held during COPY and MOVE, which lock two mailboxes in imapmemserver: two sessions that copy in
	// opposite directions would wait for each other forever.
	copying sync.Mutex

	mu        sync.Mutex
	mailboxes map[string]struct{}
	keywords  map[imap.Flag]struct{}
	sessions  map[*mailSession]struct{}
	// The messages that APPEND commands in progress will add.
	arrivingSize, arrivingCount int64
}

func newAccount(username string) *account {
	a := &account{
		user:      imapmemserver.NewUser(username, ""), // its password is never asked for: see mailSession.Login
		mailboxes: map[string]struct{}{"INBOX": {}},
		keywords:  make(map[imap.Flag]struct{}),
		sessions:  make(map[*mailSession]struct{}),
	}
	if err := a.user.Create("INBOX", nil); err != nil {
		panic(fmt.Sprintf("imapmemserver refuses a first INBOX: %v", err)) // it has no reason to
	}
	return a
}

func refusal(code imap.ResponseCode, format string, args ...any) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: fmt.Sprintf(format, args...)}
}

// join adds a session to the account.
func (a *account) join(s *mailSession) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) >= maxAccountSessions {
		return refusal(imap.ResponseCodeLimit, "Too many sessions of this user: close another one first")
	}
	a.sessions[s] = struct{}{}
	return nil
}

func (a *account) leave(s *mailSession) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, s)
}

// usageLocked returns the size in bytes and the number of the messages in all mailboxes, including those arriving.
func (a *account) usageLocked() (size, count int64) {
	size, count = a.arrivingSize, a.arrivingCount
	for name := range a.mailboxes {
		status, err := a.user.Status(name, &imap.StatusOptions{Size: true, NumMessages: true})
		if err != nil {
			continue // deleted or renamed right now
		}
		size += *status.Size
		count += int64(*status.NumMessages)
	}
	return size, count
}

// reserve reserves room for a message of the given size. release undoes that after the message is stored or refused.
func (a *account) reserve(size int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	usedSize, count := a.usageLocked()
	switch {
	case usedSize+size > maxAccountSize:
		return refusal(imap.ResponseCodeOverQuota, "The account is full: %d of %d bytes used", usedSize, maxAccountSize)
	case count+1 > maxMessages:
		return refusal(imap.ResponseCodeOverQuota, "The account is full: it has %d messages", count)
	}
	a.arrivingSize += size
	a.arrivingCount++
	return nil
}

func (a *account) release(size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrivingSize -= size
	a.arrivingCount--
}

// roomFor reports whether n more messages fit; copies share their bytes with the original.
func (a *account) roomFor(n int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, count := a.usageLocked(); count+n > maxMessages {
		return refusal(imap.ResponseCodeOverQuota, "The account is full: it has %d messages", count)
	}
	return nil
}

// admit records the keywords among flags, or refuses all of them if the account would have too many.
func (a *account) admit(flags []imap.Flag) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, flag := range flags {
		if _, known := a.keywords[flag]; known {
			continue
		}
		if len(a.keywords) >= maxKeywords || len(flag) > maxKeywordLen {
			return refusal(imap.ResponseCodeLimit, "Keywords are limited to %d of %d bytes each", maxKeywords, maxKeywordLen)
		}
		a.keywords[flag] = struct{}{}
	}
	return nil
}

func (a *account) create(name string, options *imap.CreateOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(name) > maxMailboxNameLen:
		return refusal(imap.ResponseCodeLimit, "Mailbox names are limited to %d bytes", maxMailboxNameLen)
	case len(a.mailboxes) >= maxMailboxes:
		return refusal(imap.ResponseCodeLimit, "An account is limited to %d mailboxes", maxMailboxes)
	}
	if err := a.user.Create(name, options); err != nil {
		return err
	}
	a.mailboxes[trimDelimiter(name)] = struct{}{}
	return nil
}

func (a *account) delete(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.checkUnusedLocked(name); err != nil {
		return err
	}
	if err := a.user.Delete(name); err != nil {
		return err
	}
	delete(a.mailboxes, name)
	return nil
}

func (a *account) rename(oldName, newName string, options *imap.RenameOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(newName) > maxMailboxNameLen {
		return refusal(imap.ResponseCodeLimit, "Mailbox names are limited to %d bytes", maxMailboxNameLen)
	}
	if err := a.checkUnusedLocked(oldName); err != nil {
		return err
	}
	if err := a.user.Rename(oldName, newName, options); err != nil {
		return err
	}
	delete(a.mailboxes, oldName)
	a.mailboxes[trimDelimiter(newName)] = struct{}{}
	return nil
}

// checkUnusedLocked refuses the removal of INBOX, which always exists (RFC 9051 section 5.1), and of a mailbox that a session has
// selected: its messages would stay in memory without being counted.
func (a *account) checkUnusedLocked(name string) error {
	if name == "INBOX" {
		return refusal(imap.ResponseCodeCannot, "INBOX cannot be deleted or renamed")
	}
	for s := range a.sessions {
		if s.selected == name {
			return refusal(imap.ResponseCodeInUse, "A session has this mailbox selected")
		}
	}
	return nil
}

// selectMailbox records which mailbox s has selected, and that it knows all updates to it. An empty name means none.
func (a *account) selectMailbox(s *mailSession, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.selected = name
	s.heardLocked(true)
}

// setIdling records whether s is told about changes as they happen.
func (a *account) setIdling(s *mailSession, idling bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.idling = idling
	s.heardLocked(true)
}

// polled records that s has been told about every change, or those before the first removal (RFC 9051 section 7.5.1).
func (a *account) polled(s *mailSession, removals bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.heardLocked(removals)
}

// changed counts n updates that imapmemserver now keeps for each session that has the mailbox selected, and ends sessions with too
// many pending updates.
func (a *account) changed(mailbox string, n int64, removal bool) {
	var deaf []io.Closer
	a.mu.Lock()
	for s := range a.sessions {
		if s.selected != mailbox || s.idling {
			continue
		}
		s.removals = s.removals || removal
		if s.pending += n; s.pending > maxPendingUpdates {
			deaf = append(deaf, s.conn.NetConn())
		}
	}
	a.mu.Unlock()
	for _, conn := range deaf {
		conn.Close()
	}
}

// trimDelimiter trims a new mailbox's name as imapmemserver does.
func trimDelimiter(name string) string {
	for len(name) > 0 && name[len(name)-1] == '/' {
		name = name[:len(name)-1]
	}
	return name
}
