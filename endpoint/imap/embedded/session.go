package embedded

import (
	"bytes"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// A mailSession is one session of the embedded server. All its methods except Idle are called by one goroutine of go-imap's.
type mailSession struct {
	*imapmemserver.UserSession // nil before login
	server                     *Server
	conn                       *imapserver.Conn
	account                    *account // nil before login

	// Guarded by account.mu; selected is written only by this session's goroutine, which may read it without the mutex.
	selected string // mailbox; empty when none is
	pending  int64  // the most updates that the session may not have been told of
	removals bool   // there may be an EXPUNGE among them
	idling   bool
}

// heardLocked records that the session has been told about everything pending, or what precedes the first removal.
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
		// Delta Chat recognizes a wrong password by the word "authentication" in this text. No other refusal of a login may contain it.
		return refusal(imap.ResponseCodeAuthenticationFailed, "Authentication failed: wrong user name or password")
	case loginBusy:
		s.server.logger.Warn("login deferred, too many at once", "client", remote)
		return refusal(imap.ResponseCodeUnavailable, "Too many logins at the same time: try again")
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
	// Recorded first, so that the mailbox cannot be deleted in between.
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
		return nil, refusal(imap.ResponseCodeLimit, "Message has too many parts, or they are nested too deeply")
	}
	data, err := s.UserSession.Append(mailbox, bytes.NewReader(raw), options)
	if err == nil {
		s.account.changed(mailbox, 1, false)
	}
	return data, err
}

// count returns the maximum number of messages of the selected mailbox in the set.
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

// Idle tells the client about changes as they happen (RFC 9051 section 6.3.13), beginning with those since the last command.
func (s *mailSession) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	if err := s.UserSession.Poll(w, true); err != nil {
		return err
	}
	s.account.setIdling(s, true)
	defer s.account.setIdling(s, false)
	return s.UserSession.Idle(w, stop)
}
