// Package imapext adds the METADATA extension (RFC 5464) to an IMAP connection by filtering its two byte streams.
//
// A Filter stands between one client and one backend. It splits the client's stream into commands and the backend's into responses,
// including literals, and passes both byte for byte, except where METADATA or terminating TLS requires a change: capability lists,
// GETMETADATA, SETMETADATA, ENABLE, STARTTLS, COMPRESS, ID, and logins that need TLS first. It knows nothing about sockets or where the
// values come from, does no I/O of its own, and starts no goroutines.
//
// # Driving a Filter
//
// Two goroutines drive it, one for each direction. The client's goroutine, the only one that writes to the backend:
//
//	for {
//		n, err := client.Read(buf)      // on err: half-close the backend, return
//		p := buf[:n]
//		for {
//			n, event := f.FromClient(p)
//			p = p[n:]
//			f.WriteBackend(backend)     // before buf is used again
//			f.WriteClient(client)       // the Filter's own answers
//			if event == imapext.Wait {
//				<-f.Resume()            // or the backend is gone
//				continue                // with the rest of p, even if it is empty
//			}
//			if event != imapext.Continue || len(p) == 0 {
//				break                   // see Event
//			}
//		}
//	}
//
// The backend's goroutine:
//
//	for {
//		n, err := backend.Read(buf)     // on err: close the client, return
//		f.FromBackend(buf[:n])
//		f.WriteClient(client)           // before buf is used again
//	}
//
// The queues hold slices of buf, so bytes that pass are not copied, except when a few short pieces are joined into one write. Both
// Write methods therefore have to be called before buf is reused. See the example.
//
// # Order and locking
//
// FromClient and FromBackend make decisions under the Filter's mutex and append the results to queues; what the client receives is in
// the order of the decisions. Nothing is written under that mutex: WriteClient has a lock of its own, shared only by writers to the
// client, and returns after everything queued before the call has been written, by either goroutine. A client that does not read
// therefore stops only its own session. A response of the Filter's own enters the client's stream at once if the backend is between two
// responses, otherwise directly after the response that is passing.
//
// # Callbacks
//
// Options.Entries and Options.Gave follow one rule: the Filter calls them without holding a lock, on the goroutine that called
// FromClient, FromBackend or one of the methods that end a change of the client's connection (StartedTLS and the like). Both
// directions may call at the same time. A callback may call the Filter, except for those methods and WriteBackend, and should
// not block: the direction that has called it waits.
//
// # Where the client's stream stops
//
// Whenever the meaning of the client's next byte, or how to handle its next command, depends on something that the backend has not
// said yet, FromClient consumes nothing more and returns Wait. This one rule keeps the Filter and the backend in agreement on where
// commands begin, whatever a client pipelines. It waits
//
//   - before the greeting, and until the backend has answered what Options.Identify says;
//   - after the announcement of a synchronizing literal, until "+" or the command's tagged response (RFC 9051 section 4.3);
//   - after AUTHENTICATE and each of its lines, and after IDLE, until "+" or the tagged response;
//   - after LOGIN, AUTHENTICATE, UNAUTHENTICATE, IDLE, and a GETMETADATA or ENABLE that is not forwarded unchanged, until it is
//     answered, so that GETMETADATA in the same packet as LOGIN sees the result of the login;
//   - at the end of STARTTLS and COMPRESS, until every earlier command is answered and no response is passing;
//   - before a command whose tag is that of an unanswered command, so that a tagged response is unambiguous;
//   - with 1024 unanswered commands, or 16 KiB of the Filter's own answers waiting for the end of a response; before login with 16
//     commands or 4 KiB.
//
// For the same reason a non-synchronizing literal of the client's (LITERAL+, RFC 7888) is sent to the backend as a synchronizing one: a
// backend that refuses the command may read the literal's bytes as commands. The Filter ends the session at what servers interpret
// differently and no client sends: a bare CR, a line end inside a quoted string, an announcement in the middle of a line or in one that
// begins or continues IDLE or AUTHENTICATE, and lines longer than servers read. It refuses tags and command names that servers split,
// or answer without a tag.
package imapext

import (
	"bytes"
	"io"
	"net/netip"
	"sync"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// Entries is the source of the Filter's own server annotations.
type Entries interface {
	// Entries returns every server annotation that the Filter answers for session s, each name once, in lower case and valid
	// according to metadata.CheckName, for example "/shared/vendor/deltachat/turn". The backend is not asked for these, not even if
	// the value is metadata.NIL. Values must not contain NUL.
	//
	// It is called for each GETMETADATA and SETMETADATA and each METADATA response of the backend, after login: see
	// Callbacks. The slice is not changed, nor kept after the command.
	Entries(s Session) []metadata.Entry
}

// A Session is what the Filter knows about the client.
type Session struct {
	// Account is the name that the client logged in with, if it can be seen: the user of LOGIN, or the authentication identity of
	// AUTHENTICATE PLAIN. It is empty before login, with other mechanisms, and if longer than 255 bytes. It is what the client wrote;
	// the backend may know the account by another name.
	Account string
	// Remote is the client's address.
	Remote netip.AddrPort
	// TLS is true if the connection with the client is encrypted.
	TLS bool
}

// Options is what a Filter needs to know about its connection. The zero value is for a plain connection without STARTTLS, on which
// nobody can log in, and without METADATA.
type Options struct {
	// Entries is the source of the Filter's own annotations. If it is nil, METADATA is left to the backend: it is not added to
	// capability lists, and its commands pass.
	Entries Entries
	// Ending, if not nil, is called like Entries.Entries before GETMETADATA for server annotations is answered. If it returns true, there
	// is no answer: the caller must end the session with Bye.
	Ending func() bool
	// Remote is the client's address, for Session.
	Remote netip.AddrPort
	// TLS says that the connection with the client is encrypted from the start.
	TLS bool
	// StartTLS offers STARTTLS while the connection with the client is not encrypted.
	StartTLS bool
	// Identify is what the backend is told about the client by an ID command of the Filter's own (RFC 2971), before anything from the
	// client. It is told nothing if this is empty or the backend does not announce ID. Fields beyond the limits of the RFC are left
	// out.
	Identify []IDField
	// Compress offers COMPRESS=DEFLATE (RFC 4978) after login.
	Compress bool
	// AllowPlaintextLogin lets clients log in on an unencrypted connection. Without it, LOGINDISABLED is announced there, and LOGIN and
	// AUTHENTICATE are answered with NO [PRIVACYREQUIRED] and do not reach the backend.
	AllowPlaintextLogin bool
	// CountMessages makes the Filter keep count of the messages in the selected mailbox, for RepeatExists.
	CountMessages bool
	// Gave, if not nil, is called after a response to GETMETADATA has been queued for WriteClient, with our entries in it: see
	// Callbacks.
	Gave func([]metadata.Entry)
}

// An Event says what FromClient needs before it can continue.
type Event int

const (
	// Continue: write both queues, and call FromClient again with the bytes that it did not consume, or with more from the client.
	Continue Event = iota
	// Wait: write both queues, wait for Resume, and call FromClient again with the bytes that it did not consume, even if there are
	// none. See AwaitsContinuation.
	Wait
	// StartTLS: write both queues, do the TLS handshake with the client, make the writer that is passed to WriteClient write to the TLS
	// connection, and then call StartedTLS and WriteClient. What the client sent unencrypted after STARTTLS has been discarded (RFC
	// 9051 section 6.2.1).
	StartTLS
	// Compress: write both queues, make the writer that is passed to WriteClient compress and inflate the client's stream, and then
	// call Compressed and WriteClient. The bytes that FromClient did not consume are the first of the compressed stream (RFC 4978
	// section 3): inflate them and pass them to FromClient next.
	Compress
	// Uncompress: write both queues, restore the writer that is passed to WriteClient and the client's stream to what they were before
	// Compress, and then call Uncompressed and WriteClient. UNAUTHENTICATE has ended compression (RFC 8437 section 4.1), and what
	// follows the flush of its line is not compressed.
	Uncompress
	// Close: write the client's queue, which ends with a BYE unless a response is passing, and close both sides.
	Close
)

// A Filter filters one connection. FromClient and WriteBackend are for one goroutine, FromBackend is for another; the other methods are
// safe for both.
type Filter struct {
	options Options
	resume  chan struct{}

	toBackend segments // owned by the goroutine of FromClient and WriteBackend

	// writing holds a token while something is being written to the client, as long as a slow client takes. It is acquired before mu.
	writing  chan struct{}
	writeErr error // guarded by writing: the error of WriteClient

	mu sync.Mutex // guards all that follows; never held during a callback

	session    Session
	loggedIn   bool
	compressed bool // from COMPRESS's OK to UNAUTHENTICATE's
	uncompress bool // from that OK's beginning, until FromClient has returned Uncompress
	// identifying is true while the backend may still have to be told what Options.Identify says, identified after it has been.
	identifying, identified bool
	waiting                 bool // FromClient has returned Wait
	progress                bool // something happened that may let it continue

	client  clientStream
	backend backendStream

	// What each direction tells the other.
	greeted      bool
	outstanding  outstandingTags
	pending      pending
	plus         continuation
	capabilities capabilities
	messages     messages

	ended    bool // Bye has been called: only the response that was passing then still passes
	toClient segments
	answers  int                // bytes of our own responses since FromClient was called
	inserts  []byte             // of these, what has to wait until the response that is passing ends
	gated    bool               // from the OK to STARTTLS, COMPRESS or UNAUTHENTICATE until the caller has done it: what the backend says is kept in stash
	stash    []byte             // at most maxStash
	given    [][]metadata.Entry // what Options.Gave is to be told
}

// New returns a Filter for one connection.
func New(options Options) *Filter {
	return &Filter{
		options: options,
		resume:  make(chan struct{}, 1),
		writing: make(chan struct{}, 1),
		session: Session{Remote: options.Remote, TLS: options.TLS},

		identifying: len(options.Identify) > 0,
	}
}

// Session returns what is known about the client now.
func (f *Filter) Session() Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session
}

// LoggedIn reports whether the client is in the authenticated or the selected state (RFC 9051 section 3).
func (f *Filter) LoggedIn() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.loggedIn
}

// Identified reports whether the backend was sent what Options.Identify says.
func (f *Filter) Identified() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.identified
}

// Resume returns the channel on which FromBackend announces that a FromClient which returned Wait may make progress. It is always the
// same channel. A value in it may be stale: FromClient then returns Wait again.
func (f *Filter) Resume() <-chan struct{} {
	return f.resume
}

// StartedTLS tells the Filter that the handshake requested by StartTLS is complete and that whatever WriteClient writes from now on is
// encrypted. What the backend sent meanwhile is queued for WriteClient.
func (f *Filter) StartedTLS() {
	f.mu.Lock()
	defer f.unlock()
	f.session.TLS = true
	f.openGate()
}

// Compressed tells the Filter that what Compress requested is done. What the backend sent meanwhile is queued for WriteClient.
func (f *Filter) Compressed() {
	f.mu.Lock()
	defer f.unlock()
	f.openGate()
}

// Uncompressed tells the Filter that what Uncompress requested is done. What the backend sent meanwhile is queued for WriteClient.
func (f *Filter) Uncompressed() {
	f.mu.Lock()
	defer f.unlock()
	f.openGate()
}

func (f *Filter) openGate() {
	f.gated = false
	stash := f.stash
	f.stash = nil
	f.fromBackend(stash)
}

// WriteBackend writes what FromClient queued for the backend to w.
func (f *Filter) WriteBackend(w io.Writer) error {
	return f.toBackend.take().writeTo(w)
}

// WriteClient writes to w what is queued for the client. Both goroutines pass the same w. Where STARTTLS or COMPRESS may replace the
// client's connection, w must look up the current one on each Write. When WriteClient returns nil, everything queued before the call
// has been written. After an error it always fails.
func (f *Filter) WriteClient(w io.Writer) error {
	f.writing <- struct{}{}
	defer func() { <-f.writing }()
	f.mu.Lock()
	out := f.toClient.take()
	f.mu.Unlock()
	if f.writeErr == nil {
		f.writeErr = out.writeTo(w)
	}
	return f.writeErr
}

// segments is a queue of bytes to be written. A segment may alias the buffer of the caller.
type segments [][]byte

// add appends b, extending the last segment if b follows it in memory.
func (s *segments) add(b []byte) {
	if len(b) == 0 {
		return
	}
	if n := len(*s); n > 0 {
		last := (*s)[n-1]
		if len(last) < cap(last) && &last[:len(last)+1][len(last)] == &b[0] {
			(*s)[n-1] = last[:len(last)+len(b)]
			return
		}
	}
	*s = append(*s, b)
}

func (s *segments) take() segments {
	taken := *s
	*s = nil
	return taken
}

// maxJoined is how much is joined to be written at once, in one packet or one TLS record.
const maxJoined = 4 << 10

func (s segments) writeTo(w io.Writer) error {
	for len(s) > 0 {
		n, size := 1, len(s[0])
		for n < len(s) && size+len(s[n]) <= maxJoined {
			size += len(s[n])
			n++
		}
		b := s[0]
		if n > 1 {
			b = bytes.Join(s[:n], nil)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		s = s[n:]
	}
	return nil
}
