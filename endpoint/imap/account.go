package imap

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// Bounds of what one account of the embedded server keeps in memory.
const (
	maxMessageSize     = 16 << 20 // bytes; APPENDLIMIT (RFC 7889)
	maxAccountSize     = 64 << 20 // bytes, all messages
	maxMessages        = 10000
	maxMailboxes       = 100
	maxMailboxNameLen  = 255 // bytes
	maxKeywords        = 64
	maxKeywordLen      = 64
	maxPendingUpdates  = 100_000 // of a session that has a mailbox selected and does not ask for news
	maxAccountSessions = 100
)

// An account is one user of the embedded server: imapmemserver's store, within bounds.
type account struct {
	user *imapmemserver.User

	// copying is held through COPY and MOVE, which lock two mailboxes in imapmemserver: two sessions that copy in
	// opposite directions would wait for each other for ever.
	copying sync.Mutex

	mu        sync.Mutex
	mailboxes map[string]struct{}
	keywords  map[imap.Flag]struct{}
	sessions  map[*mailSession]struct{}
	// arriving are messages that an APPEND in progress will add.
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

// usageLocked returns bytes and number of the messages in all mailboxes, and of those arriving.
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

// reserve makes room for a message of the given size, which release gives back once the message is stored or refused.
func (a *account) reserve(size int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	usedSize, count := a.usageLocked()
	switch {
	case usedSize+size > maxAccountSize:
		return refusal(imap.ResponseCodeOverQuota, "The account is full: %d of %d bytes are used", usedSize, maxAccountSize)
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

// admit notes the keywords among flags, or refuses them all when the account has too many.
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

// checkUnusedLocked refuses to take away INBOX, which always exists (RFC 9051 section 5.1), and a mailbox that a session
// has selected: its messages would stay in memory without being counted.
func (a *account) checkUnusedLocked(name string) error {
	if name == "INBOX" {
		return refusal(imap.ResponseCodeCannot, "INBOX stays")
	}
	for s := range a.sessions {
		if s.selected == name {
			return refusal(imap.ResponseCodeInUse, "A session has this mailbox selected")
		}
	}
	return nil
}

// selectMailbox notes which mailbox s has selected, and that it has heard all news of it. An empty name is none.
func (a *account) selectMailbox(s *mailSession, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.selected = name
	s.heardLocked(true)
}

// setIdling notes whether s is told of changes as they happen.
func (a *account) setIdling(s *mailSession, idling bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.idling = idling
	s.heardLocked(true)
}

// polled notes that s has been told of every change, or of those before the first removal (RFC 9051 section 7.5.1).
func (a *account) polled(s *mailSession, removals bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.heardLocked(removals)
}

// changed counts n updates that imapmemserver now keeps for each session that has the mailbox selected, and ends
// sessions that have let too many pile up.
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

// trimDelimiter does to a new mailbox's name what imapmemserver does.
func trimDelimiter(name string) string {
	for len(name) > 0 && name[len(name)-1] == '/' {
		name = name[:len(name)-1]
	}
	return name
}

// A mailSession is one session of the embedded server. Its methods are called by one goroutine, go-imap's, except Idle.
type mailSession struct {
	*imapmemserver.UserSession // nil before login
	server                     *embedded
	conn                       *imapserver.Conn
	account                    *account // nil before login

	// Guarded by account.mu; selected is written by this session's goroutine only, which may read it without.
	selected string // mailbox; empty when none is
	pending  int64  // updates that the session has not been told of, at most
	removals bool   // there may be an EXPUNGE among them
	idling   bool
}

// heardLocked notes that the session has been told of all that is pending, or of what comes before the first removal.
func (s *mailSession) heardLocked(removals bool) {
	if removals || !s.removals {
		s.pending, s.removals = 0, false
	}
}

var (
	_ imapserver.SessionIMAP4rev2   = (*mailSession)(nil)
	_ imapserver.SessionAppendLimit = (*mailSession)(nil)
)

// Login checks the password (RFC 9051 section 6.2.3).
func (s *mailSession) Login(username, candidate string) error {
	remote := s.conn.NetConn().RemoteAddr().String()
	switch s.server.checker.check(username, candidate, s.server.stopping) {
	case loginRefused:
		s.server.loginRefused(remote, username)
		// Delta Chat tells a wrong password from every other trouble by the word "authentication" in this text. No
		// other answer to a login may have it.
		return refusal(imap.ResponseCodeAuthenticationFailed, "Authentication failed: wrong user name or password")
	case loginBusy:
		s.server.logger.Warn("login put off, too many at once", "client", remote)
		return refusal(imap.ResponseCodeUnavailable, "Too many logins at once: try again")
	}
	a := s.server.accounts[username]
	if err := a.join(s); err != nil {
		return err
	}
	s.account = a
	s.UserSession = imapmemserver.NewUserSession(a.user)
	return nil
}

// Close is called once, when the connection has ended.
func (s *mailSession) Close() error {
	defer s.server.sessions.Done()
	if s.account == nil {
		return nil
	}
	s.account.leave(s)
	return s.UserSession.Close()
}

func (s *mailSession) AppendLimit() uint32 { return maxMessageSize }

func (s *mailSession) Create(name string, options *imap.CreateOptions) error {
	return s.account.create(name, options)
}

func (s *mailSession) Delete(name string) error { return s.account.delete(name) }

func (s *mailSession) Rename(oldName, newName string, options *imap.RenameOptions) error {
	return s.account.rename(oldName, newName, options)
}

func (s *mailSession) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	// Noted first, so that the mailbox cannot be deleted in between.
	s.account.selectMailbox(s, name)
	data, err := s.UserSession.Select(name, options)
	if err != nil {
		s.account.selectMailbox(s, "")
	}
	return data, err
}

func (s *mailSession) Unselect() error {
	err := s.UserSession.Unselect()
	s.account.selectMailbox(s, "")
	return err
}

// Append stores one message of at most maxMessageSize bytes, which go-imap has checked.
func (s *mailSession) Append(mailbox string, r imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	if err := s.account.admit(options.Flags); err != nil {
		return nil, err
	}
	if err := s.account.reserve(r.Size()); err != nil {
		return nil, err
	}
	defer s.account.release(r.Size())
	raw := make([]byte, r.Size())
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	if err := checkMIME(raw); err != nil {
		return nil, refusal(imap.ResponseCodeLimit, "Message has too many parts, or parts too deep in one another")
	}
	data, err := s.UserSession.Append(mailbox, bytes.NewReader(raw), options)
	if err == nil {
		s.account.changed(mailbox, 1, false)
	}
	return data, err
}

// count returns how many messages of the selected mailbox can be in the set, at most.
func (s *mailSession) count(set imap.NumSet) (int64, error) {
	present, err := s.numMessages()
	if err != nil || set.Dynamic() { // up to "*", or the result of a search
		return present, err
	}
	var named int64
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			named += int64(r.Stop) - int64(r.Start) + 1
		}
	case imap.UIDSet:
		for _, r := range set {
			named += int64(r.Stop) - int64(r.Start) + 1
		}
	}
	return min(present, named), nil
}

func (s *mailSession) Copy(set imap.NumSet, destination string) (*imap.CopyData, error) {
	s.account.copying.Lock()
	defer s.account.copying.Unlock()
	n, err := s.count(set)
	if err != nil {
		return nil, err
	}
	if err := s.account.roomFor(n); err != nil {
		return nil, err
	}
	data, err := s.UserSession.Copy(set, destination)
	if err == nil {
		s.account.changed(destination, n, false)
	}
	return data, err
}

func (s *mailSession) Move(w *imapserver.MoveWriter, set imap.NumSet, destination string) error {
	s.account.copying.Lock()
	defer s.account.copying.Unlock()
	n, err := s.count(set)
	if err != nil {
		return err
	}
	err = s.UserSession.Move(w, set, destination)
	s.account.changed(destination, n, false)
	s.account.changed(s.selected, n, true)
	return err
}

func (s *mailSession) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	before, err := s.numMessages()
	if err != nil {
		return err
	}
	if err := s.UserSession.Expunge(w, uids); err != nil {
		return err
	}
	s.account.changed(s.selected, before, true) // at most so many
	return nil
}

func (s *mailSession) numMessages() (int64, error) {
	status, err := s.account.user.Status(s.selected, &imap.StatusOptions{NumMessages: true})
	if err != nil {
		return 0, err
	}
	return int64(*status.NumMessages), nil
}

func (s *mailSession) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	for _, section := range options.BodySection {
		if !section.Peek { // sets \Seen
			n, err := s.count(set)
			if err != nil {
				return err
			}
			s.account.changed(s.selected, n, false)
			break
		}
	}
	return s.UserSession.Fetch(w, set, options)
}

func (s *mailSession) Store(w *imapserver.FetchWriter, set imap.NumSet, flags *imap.StoreFlags, options *imap.StoreOptions) error {
	if flags.Op != imap.StoreFlagsDel {
		if err := s.account.admit(flags.Flags); err != nil {
			return err
		}
	}
	n, err := s.count(set)
	if err != nil {
		return err
	}
	s.account.changed(s.selected, n, false)
	return s.UserSession.Store(w, set, flags, options)
}

func (s *mailSession) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	err := s.UserSession.Poll(w, allowExpunge)
	s.account.polled(s, allowExpunge)
	return err
}

// Idle tells the client of changes as they happen (RFC 9051 section 6.3.13), of those since the last command first.
func (s *mailSession) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	if err := s.UserSession.Poll(w, true); err != nil {
		return err
	}
	s.account.setIdling(s, true)
	defer s.account.setIdling(s, false)
	return s.UserSession.Idle(w, stop)
}
