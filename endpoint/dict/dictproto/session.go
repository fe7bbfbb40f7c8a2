// Package dictproto is the protocol of Dovecot's dictionaries, as a server that answers some keys itself and leaves the others to
// the next server. It has no sockets: its input is a client's bytes, its output is what to do about them.
//
// A client sends lines of at most MaxLine bytes, each a letter and fields between TABs: H (hello) first, L (look-up), I (iterate),
// and B (begin), S U A T P V (changes), C (commit) and R (roll back) for transactions, which have numbers. Answers are in the order
// of the requests. Dovecot 2.3 from 2.3.17 on speaks version 3.2, Dovecot 2.4 version 4, which is the same but for its number:
// https://doc.dovecot.org/2.4.4/developers/design/dict_protocol.html.
package dictproto

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxLine is the maximum length of a client's line in bytes, without the LF.
const MaxLine = 64 * 1024

// maxTransactions bounds the open transactions of a client. Dovecot's IMAP process has one for each SETMETADATA.
const maxTransactions = 64

// serverPrefix stands in a key of a server annotation (RFC 5464 section 3.2, mailbox "") between the mailbox's GUID, that
// of INBOX, and the name of the entry without "/shared/".
const serverPrefix = "/vendor/vendor.dovecot/pvt/server/"

// Flags of an iteration.
const (
	flagRecurse  = 0x01
	flagNoValue  = 0x08
	flagExactKey = 0x10
)

// ErrVersion is returned for a client that speaks another version of the protocol.
var ErrVersion = errors.New("version of the dict protocol is not supported: want 3 (Dovecot 2.3.17 or later) or 4 (Dovecot 2.4)")

// Why look-ups and transactions fail, for the client's log.
const (
	errOurs      = "TURN credentials are made by the server and cannot be set"
	errNoNext    = "no dict server is configured to keep this value"
	errUnreached = "the next dict server does not answer"
	errLost      = "the next dict server went away"
)

// An Entry is an annotation of ours, below "/shared/".
type Entry struct {
	Name  string // such as vendor/deltachat/turn, in lower case
	Value string // empty for none: the key is ours all the same
}

// A Session is the state of one client. Its methods must not be called concurrently.
type Session struct {
	// Entries returns our entries for a user, who may be empty, sorted by name. It is called for each request that asks for any of
	// them.
	Entries func(user string) []Entry
	// HasNext reports whether there is a next server for all other keys. Without one they have no values, and setting them fails.
	HasNext bool

	hello        bool
	user         string // of the hello; may be empty
	transactions map[uint32]*transaction
}

type transaction struct {
	failure string // why it will fail when it is committed
	atNext  bool   // begun at the next server
}

// An Action is what to do about one line of a client.
type Action struct {
	// Reply is for the client: immediately if Forward is empty, else as soon as that has been written.
	Reply []byte
	// Forward is for the next server, whole lines; empty for nothing.
	Forward []byte
	// Answer, if not nil, is given each line of the next server until it is complete, and returns what the client receives.
	Answer *Answer
	// Unreached and Lost are for the client if the next server could not be reached, and if it disconnected before it answered.
	// They are empty if the client expects nothing.
	Unreached, Lost []byte
	// Repeatable reports whether the request may be sent again, as long as nothing has been answered.
	Repeatable bool

	begins *transaction
}

// Next handles a line of the client, without its LF. An error means that the client does not speak the protocol, and that its
// connection must be closed: the protocol has no answer for that.
func (s *Session) Next(line string) (Action, error) {
	if line == "" {
		return Action{}, errors.New("empty line")
	}
	command, fields := line[0], split(line[1:])
	if !s.hello {
		return Action{}, s.begin(command, fields)
	}
	switch command {
	case 'L':
		return s.lookup(line, fields), nil
	case 'I':
		return s.iterate(line, fields)
	case 'B', 'S', 'U', 'A', 'P', 'T', 'V', 'C', 'D', 'R':
		id, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return Action{}, fmt.Errorf("%c: transaction %.20q is not a number", command, fields[0])
		}
		return s.transact(command, uint32(id), line, fields)
	case 'H':
		return Action{}, errors.New("second hello")
	}
	return Action{}, fmt.Errorf("unknown command %q", command)
}

func split(parameters string) []string {
	fields := strings.Split(parameters, "\t")
	for i := range fields {
		fields[i] = Unescape(fields[i])
	}
	return fields
}

// begin handles the hello: major version, minor version, type of the values, user, name of the dictionary. Which dictionary a
// client asks for does not matter: there is one.
func (s *Session) begin(command byte, fields []string) error {
	if command != 'H' {
		return fmt.Errorf("%q before hello", command)
	}
	if len(fields) < 5 {
		return fmt.Errorf("hello has %d fields, want 5", len(fields))
	}
	if fields[0] != "3" && fields[0] != "4" {
		return fmt.Errorf("%w: got %.20q", ErrVersion, fields[0])
	}
	s.hello, s.user = true, fields[3]
	return nil
}

// userIn returns the user that a request names in field i, or else that of the hello.
func (s *Session) userIn(fields []string, i int) string {
	if i < len(fields) && fields[i] != "" {
		return fields[i]
	}
	return s.user
}

// serverEntry returns the part of a key that is the name of a server annotation.
func serverEntry(key string) (guid, name string, ok bool) {
	rest, shared := strings.CutPrefix(key, "shared/")
	guid, name, found := strings.Cut(rest, serverPrefix)
	return guid, name, shared && found && guid != "" && !strings.Contains(guid, "/")
}

// find returns our entry for a key and a user.
func (s *Session) find(key, user string) (Entry, bool) {
	_, name, ok := serverEntry(key)
	if !ok {
		return Entry{}, false
	}
	entries := s.Entries(user)
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return entries[i], true
}

// lookup handles L: key, user.
func (s *Session) lookup(line string, fields []string) Action {
	entry, ours := s.find(fields[0], s.userIn(fields, 1))
	switch {
	case ours && entry.Value != "":
		return Action{Reply: []byte("O" + Escape(entry.Value) + "\n")}
	case ours || !s.HasNext:
		return Action{Reply: []byte("N\n")}
	}
	return s.ask(line, &Answer{})
}

// ask returns the action for a request that the next server answers and that changes nothing there.
func (s *Session) ask(line string, answer *Answer) Action {
	return Action{
		Forward: []byte(line + "\n"), Answer: answer, Repeatable: true,
		Unreached: []byte("F" + errUnreached + "\n"), Lost: []byte("F" + errLost + "\n"),
	}
}

// iterate handles I: flags, maximum of rows or 0, path, user.
func (s *Session) iterate(line string, fields []string) (Action, error) {
	if len(fields) < 3 {
		return Action{}, fmt.Errorf("iterate has %d fields, want 3 or more", len(fields))
	}
	flags, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil {
		return Action{}, fmt.Errorf("iterate: flags %.20q are not a number", fields[0])
	}
	maximum, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return Action{}, fmt.Errorf("iterate: maximum of rows %.20q is not a number", fields[1])
	}
	answer := &Answer{session: s, iterate: true, maximum: maximum, rows: s.rows(fields[2], s.userIn(fields, 3), flags)}
	if s.HasNext {
		return s.ask(line, answer), nil
	}
	reply, _ := answer.end("")
	return Action{Reply: reply}, nil
}

// A row is a line of an answer, with the key by which it is sorted.
type row struct{ key, line string }

// rows returns our entries below path, sorted by key.
func (s *Session) rows(path, user string, flags uint64) (rows []row) {
	guid, _, _ := strings.Cut(strings.TrimPrefix(path, "shared/"), "/")
	if !strings.HasPrefix(path, "shared/") || guid == "" {
		return nil
	}
	for _, entry := range s.Entries(user) {
		key := "shared/" + guid + serverPrefix + entry.Name
		below, ok := strings.CutPrefix(key, path)
		switch {
		case entry.Value == "" || !ok:
			continue
		case flags&flagExactKey != 0 && below != "":
			continue
		case flags&(flagRecurse|flagExactKey) == 0 && strings.Contains(below, "/"):
			continue
		}
		value := Escape(entry.Value)
		if flags&flagNoValue != 0 {
			value = ""
		}
		rows = append(rows, row{key, "O" + Escape(key) + "\t" + value + "\n"})
	}
	return rows
}

// transact handles the commands of a transaction.
func (s *Session) transact(command byte, id uint32, line string, fields []string) (Action, error) {
	t := s.transactions[id]
	if command == 'B' {
		return s.beginTransaction(id, line)
	}
	if t == nil {
		return Action{}, fmt.Errorf("%c: transaction %d has not begun", command, id)
	}
	switch command {
	case 'C', 'D':
		delete(s.transactions, id)
		return t.commit(command, id), nil
	case 'R':
		delete(s.transactions, id)
		return t.rollback(id), nil
	case 'T', 'V': // time stamp; whether to log values
	default:
		if len(fields) < 2 {
			return Action{}, fmt.Errorf("%c: key is missing", command)
		}
		if _, ours := s.find(fields[1], s.user); ours {
			t.failure = errOurs
		} else if !s.HasNext {
			t.failure = errNoNext
		}
	}
	if t.failure != "" || !s.HasNext {
		return Action{}, nil
	}
	return Action{Forward: []byte(line + "\n")}, nil
}

func (s *Session) beginTransaction(id uint32, line string) (Action, error) {
	switch {
	case s.transactions[id] != nil:
		return Action{}, fmt.Errorf("transaction %d has already begun", id)
	case len(s.transactions) >= maxTransactions:
		return Action{}, fmt.Errorf("more than %d transactions", maxTransactions)
	case s.transactions == nil:
		s.transactions = make(map[uint32]*transaction)
	}
	t := new(transaction)
	s.transactions[id] = t
	if !s.HasNext {
		return Action{}, nil
	}
	t.failure = errUnreached
	return Action{Forward: []byte(line + "\n"), Repeatable: true, begins: t}, nil
}

// Sent must be called after the next server has been sent Forward.
func (s *Session) Sent(a Action) {
	if a.begins != nil {
		a.begins.failure, a.begins.atNext = "", true
	}
}

// commit ends the transaction. D is a commit whose result the client does not wait for; the next server is told C, because
// some answer D and some do not.
func (t *transaction) commit(command byte, id uint32) Action {
	number := strconv.FormatUint(uint64(id), 10)
	a := Action{Reply: []byte("O" + number + "\n")}
	switch {
	case t.failure != "":
		a = t.rollback(id)
		a.Reply = []byte("F" + number + "\t" + Escape(t.failure) + "\n")
	case t.atNext:
		a = Action{
			Forward:   []byte("C" + number + "\n"),
			Answer:    &Answer{},
			Unreached: []byte("F" + number + "\t" + errUnreached + "\n"),
			// W: the change may or may not have been made.
			Lost: []byte("W" + number + "\t" + errLost + "\n"),
		}
	}
	if command == 'D' {
		a.Reply, a.Unreached, a.Lost = nil, nil, nil
		if a.Answer != nil {
			a.Answer.discard = true
		}
	}
	return a
}

func (t *transaction) rollback(id uint32) Action {
	if !t.atNext {
		return Action{}
	}
	return Action{Forward: []byte("R" + strconv.FormatUint(uint64(id), 10) + "\n")}
}

// Lost must be called after the connection to the next server is lost, and with it the transactions that have begun there.
func (s *Session) Lost() {
	for _, t := range s.transactions {
		if t.atNext {
			t.atNext = false
			t.failure = errLost
		}
	}
}
