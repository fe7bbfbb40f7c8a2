// Package imapext adds the METADATA extension (RFC 5464) to an IMAP connection by filtering its two byte streams.
//
// A Filter stands between one client and one backend. It cuts the client's stream into commands and the backend's into
// responses, literals included, and passes both byte for byte, except where METADATA and the end of TLS ask for a
// change: capability lists, GETMETADATA, SETMETADATA, ENABLE, STARTTLS, COMPRESS, ID, and logins that need TLS first. It
// knows neither sockets nor where the values come from, does no I/O of its own and starts no goroutine.
//
// # Driving a Filter
//
// Two goroutines drive it, one for each direction. The client's goroutine, which alone writes to the backend:
//
//	for {
//		n, err := client.Read(buf)      // err: half-close the backend, return
//		p := buf[:n]
//		for {
//			n, event := f.FromClient(p)
//			p = p[n:]
//			f.WriteBackend(backend)     // before buf is used again
//			f.WriteClient(client)       // what the Filter answered itself
//			if event == imapext.Wait {
//				<-f.Resume()            // or: the backend is gone
//				continue                // with what is left of p, even if that is nothing
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
//		n, err := backend.Read(buf)     // err: close the client, return
//		f.FromBackend(buf[:n])
//		f.WriteClient(client)           // before buf is used again
//	}
//
// The queues hold slices of buf, so passing bytes are not copied, but where a few short pieces make one write; hence both
// Write methods have to be called before buf is filled again. See the example.
//
// # Order and locking
//
// FromClient and FromBackend decide under the Filter's mutex and append what they decide to queues; the order towards the
// client is the order of the decisions. Nothing is written under that mutex: WriteClient has a lock of its own, which only
// writers of the client's side share, and returns when all that was queued before the call is written, by whomever. A client
// that does not read therefore stops its own session and nothing else. A response of the Filter's own enters the
// client's stream at once if the backend is between two responses, else right behind the response that is passing.
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
// Whenever the meaning of the client's next byte, or the right treatment of its next command, depends on something that the
// backend has not said yet, FromClient consumes no further and returns Wait. That is the one rule that keeps the Filter and
// the backend agreed on where commands begin, whatever a client pipelines:
//
//   - before the greeting, and until the backend has taken what Options.Identify says;
//   - behind a synchronising literal's announcement, until "+" or the command's tagged response (RFC 9051 section 4.3);
//   - behind AUTHENTICATE and each of its lines, and behind IDLE, until "+" or the tagged response;
//   - after LOGIN, AUTHENTICATE, UNAUTHENTICATE, IDLE, and a GETMETADATA or ENABLE that is not forwarded as it is, until it is
//     answered: so GETMETADATA in the same packet as LOGIN sees the login's outcome;
//   - at the end of STARTTLS and of COMPRESS, until every command before it is answered and no response is passing;
//   - before a command whose tag an unanswered command bears, so that a tagged response has one reading only;
//   - with 1024 commands unanswered, or 16 KiB of answers of the Filter's own waiting for the end of a response; before login
//     with 16 and 4 KiB.
//
// The same agreement makes a literal that the client did not synchronise (LITERAL+, RFC 7888) a synchronised one towards the
// backend: one that refuses the command may read the literal's bytes as commands. And it ends the session at what servers read
// differently and no client sends: a bare CR, a line end inside a quoted string, an announcement within a line or in one
// that begins or continues IDLE or AUTHENTICATE, and lines longer than servers read. Tags and names of commands that servers
// split, or answer untagged, are refused.
package imapext

import (
	"bytes"
	"io"
	"net/netip"
	"sync"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// Entries is the source of the server annotations that are ours.
type Entries interface {
	// Entries returns every server annotation that is answered here for session s, each name once, in lower case and valid
	// by metadata.CheckName, for example "/shared/vendor/deltachat/turn". An entry without a value (metadata.NIL) is
	// owned all the same: the backend is not asked for it. Values may not contain NUL.
	//
	// It is called for each GETMETADATA and SETMETADATA and each METADATA response of the backend, after login: see
	// Callbacks. The slice is not changed, nor kept after the command.
	Entries(s Session) []metadata.Entry
}

// Session is what the Filter knows about the client.
type Session struct {
	// Account is the name the client logged in as, as far as it can be seen: the user of LOGIN, or the authentication identity
	// of AUTHENTICATE PLAIN. Empty before login, with other mechanisms, and if longer than 255 bytes. It is what the client
	// wrote; the backend may know the account by another name.
	Account string
	// Remote is the client's address.
	Remote netip.AddrPort
	// TLS says whether the client's side is encrypted.
	TLS bool
}

// Options is what a Filter needs to know about its connection. The zero value makes a Filter for a plain connection
// without STARTTLS, on which nobody can log in, and without METADATA.
type Options struct {
	// Entries is the source of our annotations. If nil, METADATA is the backend's own affair: it is not added to
	// capability lists, and its commands pass.
	Entries Entries
	// Remote is the client's address, for Session.
	Remote netip.AddrPort
	// TLS says that the client's side is encrypted from the start.
	TLS bool
	// StartTLS offers STARTTLS while the client's side is plain.
	StartTLS bool
	// Identify is what the backend is told of the client by a command of our own, ID (RFC 2971), before anything of the client's.
	// If it is empty, or the backend does not announce ID, nothing is. Fields beyond the standard's bounds are left out.
	Identify []IDField
	// Compress offers COMPRESS=DEFLATE (RFC 4978) after login.
	Compress bool
	// AllowPlaintextLogin lets clients log in on a plain connection. Without it LOGINDISABLED is announced there, and LOGIN
	// and AUTHENTICATE get NO [PRIVACYREQUIRED] without reaching the backend.
	AllowPlaintextLogin bool
	// CountMessages keeps count of the messages in the selected mailbox, for RepeatExists.
	CountMessages bool
	// Gave, if not nil, is called after a response to GETMETADATA has been queued for WriteClient, with our entries in it: see
	// Callbacks.
	Gave func([]metadata.Entry)
}

// Event says what FromClient needs done before it goes on.
type Event int

const (
	// Continue asks to write out both queues, and to call FromClient again with the bytes that it did not consume, else with
	// more from the client.
	Continue Event = iota
	// Wait asks to write out both queues, to wait for Resume, and to call FromClient again with the bytes that it did
	// not consume, even if there are none. See AwaitsContinuation.
	Wait
	// StartTLS asks to write out both queues, to do the TLS handshake with the client, to make the writer that is handed to
	// WriteClient write to the TLS connection, and then to call StartedTLS and WriteClient. What the client sent in the
	// clear behind STARTTLS is consumed and gone (RFC 9051 section 6.2.1).
	StartTLS
	// Compress asks to write out both queues, to make the writer that is handed to WriteClient compress and the client's
	// stream be inflated, and then to call Compressed and WriteClient. The bytes that FromClient did not consume are the first of
	// the compressed stream (RFC 4978 section 3): inflated, they go to FromClient next.
	Compress
	// Uncompress asks to write out both queues, to make the writer that is handed to WriteClient and the client's stream those
	// of before Compress, and then to call Uncompressed and WriteClient. UNAUTHENTICATE has ended compression (RFC 8437
	// section 4.1), and what follows the flush of its line is not compressed.
	Uncompress
	// Close asks to write out the client's queue, which ends in a BYE unless a response is passing, and to close both sides.
	Close
)

// Filter filters one connection. FromClient and WriteBackend are for one goroutine, FromBackend for another; the other
// methods are safe for both.
type Filter struct {
	options Options
	resume  chan struct{}

	toBackend segments // owned by the goroutine of FromClient and WriteBackend

	// writing holds a token while something is being written to the client, for as long as a slow client takes. It is taken
	// before mu.
	writing  chan struct{}
	writeErr error // guarded by writing: what WriteClient has failed with

	mu sync.Mutex // guards all that follows; never held during a callback

	session    Session
	loggedIn   bool
	compressed bool // from COMPRESS's OK to UNAUTHENTICATE's
	uncompress bool // from that OK's beginning, until FromClient has returned Uncompress
	// identifying: the backend may still have to be told what Options.Identify says. identified: it has been.
	identifying, identified bool
	waiting                 bool // FromClient has returned Wait
	progress                bool // something happened that may let it go on

	client  clientStream
	backend backendStream

	// What each direction tells the other.
	greeted      bool
	outstanding  outstandingTags
	pending      pending
	plus         continuation
	capabilities capabilities
	messages     messages

	ended    bool // Bye has been called: only what is passing then is still passed
	toClient segments
	answers  int                // bytes of our own responses since FromClient was called
	inserts  []byte             // of these, what has to wait until the response that is passing ends
	gated    bool               // from the OK to STARTTLS, COMPRESS or UNAUTHENTICATE until the caller has done it: what the backend says is kept in stash
	stash    []byte             // at most maxStash
	given    [][]metadata.Entry // what Options.Gave is to be told
}

// New returns the Filter of one connection.
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

// Resume returns the channel on which FromBackend announces that a FromClient which returned Wait may get further. It is the
// same channel throughout; a value in it may be stale, and FromClient then returns Wait again.
func (f *Filter) Resume() <-chan struct{} {
	return f.resume
}

// StartedTLS tells the Filter that the handshake asked for by StartTLS is done and that whatever WriteClient writes from
// now on is encrypted. What the backend said meanwhile is queued for WriteClient.
func (f *Filter) StartedTLS() {
	f.mu.Lock()
	defer f.unlock()
	f.session.TLS = true
	f.openGate()
}

// Compressed tells the Filter that what Compress asked for is done. What the backend said meanwhile is queued for
// WriteClient.
func (f *Filter) Compressed() {
	f.mu.Lock()
	defer f.unlock()
	f.openGate()
}

// Uncompressed tells the Filter that what Uncompress asked for is done. What the backend said meanwhile is queued for
// WriteClient.
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

// WriteClient writes to w what is queued for the client. Both goroutines pass the same w, one that finds out the
// client's present connection on each Write where STARTTLS or COMPRESS may replace it. When WriteClient returns nil, everything queued
// before the call has been written. After an error it fails for good.
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

// add appends b, extending the last segment where b follows it in memory.
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

// maxJoined is how much is copied to be written at once: in one packet, or one TLS record.
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
