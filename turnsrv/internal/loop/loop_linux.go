package loop

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

const (
	// maxEvents is the number of ready descriptors that a round handles.
	maxEvents = 128
)

// Loop waits for descriptors and handles them. Only one thread runs it at a time: see Group. Its methods may be called only by
// functions that the loop calls, on the goroutine of that thread, except where a comment says otherwise.
type Loop struct {
	options Options
	group   *Group
	index   int                    // in group.loops
	thread  atomic.Pointer[thread] // that runs the loop; nil while it moves to another one
	start   time.Time              // classPeriod before the loop was made, so that a zero duration since then is long ago
	epoll   int
	wake    int // an eventfd: written to by other goroutines, under waking

	watched  []*watch // by descriptor
	alarms   alarms
	after    []func()
	inbox    *udp.Inbox
	out      *udp.Outbox
	turns    turns
	number   uint64 // of the round
	crowded  bool   // the shared socket whose turn it is has had too many datagrams for longer than crowdedAfter
	late     late
	tasks    int       // number of tasks done in this round
	passing  []passing // datagrams that this round passes to loops on other threads
	visited  []*Loop   // loops on the same thread to which this round has passed datagrams
	visitor  bool      // another loop is passing a datagram to this one
	began    time.Time // of the round
	load     load
	class    byte // see Class
	seen     byte // the classes of the datagrams in the inbox
	events   []unix.EpollEvent
	ready    int  // number of events in this round
	gathered bool // the round follows a wait for more packets

	suspended bool // see Group.Suspend

	mail   mailbox
	waking sync.RWMutex // held for writing when wake is closed
	asleep atomic.Bool  // the thread is waiting, or about to wait, and must be woken
	closed atomic.Bool
	ended  chan struct{} // closed when no thread runs the loop any longer
	counts counts
}

// watch is what a loop does when a descriptor is ready: it receives datagrams for receiver, or calls ready. There is one for each
// relayed address, most of which are idle, so it fills no more than one cache line.
type watch struct {
	socket    *udp.Socket
	receiver  Receiver
	ready     func(events uint32, now time.Time)
	fullSince time.Duration // since Loop.start: the first of the latest turns that did not empty the socket; zero if the last one did
	classes   classes
	batch     uint8 // number of messages to receive with one call
	shared    bool  // by many clients
	queued    bool  // in turns
	failed    bool  // the system may have kept ICMP errors
	inherited bool  // the options of the socket are those that another process has set
	ended     bool
}

// wantsErrors reports whether the receiver gets ICMP errors.
func (w *watch) wantsErrors() bool {
	_, ok := w.receiver.(ErrorReceiver)
	return ok
}

// passing holds datagrams for another loop.
type passing struct {
	to    *Loop
	batch *batch
}

type counts struct{ rounds, packets, gathers, gathered, gather, panics atomic.Uint64 }

// newLoop returns a loop that no thread runs yet.
func newLoop(options Options) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &Loop{
		options: options, start: time.Now().Add(-classPeriod), epoll: epoll, wake: wake, ended: make(chan struct{}),
		inbox: udp.NewInbox(), out: udp.NewOutbox(), events: make([]unix.EpollEvent, maxEvents),
	}
	if err := l.add(wake, unix.EPOLLIN, nil); err != nil {
		l.release()
		return nil, err
	}
	l.out.SetSegment(options.Segment)
	l.turns.retryAlarm = l.NewAlarm(l.receiveFailed)
	return l, nil
}

// release closes the descriptors of the loop.
func (l *Loop) release() {
	l.waking.Lock()
	defer l.waking.Unlock()
	_, _ = unix.Close(l.epoll), unix.Close(l.wake)
	l.wake = -1
}

// Close ends the loop after the calls that have been posted, and waits for it. Safe for concurrent use.
func (l *Loop) Close() {
	l.closed.Store(true)
	l.Post(func() {})
	<-l.ended
}

// Post makes the loop call f soon. Safe for concurrent use. After Close, f may never be called.
func (l *Loop) Post(f func()) {
	l.mail.post(f)
	l.wakeUp()
}

// Do makes the loop call f, and waits until it has. It must not be called on the goroutine of the loop, nor after Close.
func (l *Loop) Do(f func()) {
	done := make(chan struct{})
	l.Post(func() {
		defer close(done)
		f()
	})
	<-done
}

// wakeUp ends the wait of the loop. Safe for concurrent use.
func (l *Loop) wakeUp() {
	if !l.asleep.CompareAndSwap(true, false) {
		return
	}
	l.waking.RLock()
	defer l.waking.RUnlock()
	if l.wake >= 0 {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(l.wake, one[:])
	}
}

func (l *Loop) drainWake() {
	var b [8]byte
	_, _ = unix.Read(l.wake, b[:])
}

// Watch makes the loop call ready whenever a descriptor has one of events, as in epoll_ctl(2). Level-triggered.
func (l *Loop) Watch(fd int, events uint32, ready func(events uint32, now time.Time)) error {
	return l.add(fd, events, &watch{ready: ready})
}

// Receive makes the loop receive from a socket. The loop does not own the socket: Unwatch it and call Flush before it is closed. If
// shared is true, many clients send to the socket, and in each round it gets as much time as all sockets that are not shared
// together. If r is an ErrorReceiver, it also gets ICMP errors.
func (l *Loop) Receive(s *udp.Socket, r Receiver, shared bool) error {
	if l.options.Coalesce {
		_ = s.SetCoalesce(true) // older systems have no UDP_GRO
	}
	w := &watch{socket: s, receiver: r, shared: shared, batch: udp.Batch}
	if w.wantsErrors() {
		if err := s.KeepErrors(true); err != nil {
			return err
		}
	}
	w.classes.begin(s, classPatience)
	return l.add(s.FD(), unix.EPOLLIN|unix.EPOLLET, w)
}

// Inherit is like Receive for a socket that is not shared, and from which a loop of another process has received. Its options, which the
// two processes share, are set only when something arrives, because nothing is relayed until all sockets have been inherited.
func (l *Loop) Inherit(s *udp.Socket, r Receiver) error {
	return l.add(s.FD(), unix.EPOLLIN|unix.EPOLLET, &watch{socket: s, receiver: r, batch: udp.Batch, inherited: true})
}

// settle sets the options of an inherited socket. Another configuration may have differed in them. An error has no more effect than
// that of an older system, which lacks the option.
func (l *Loop) settle(w *watch) {
	w.inherited = false
	_ = w.socket.SetCoalesce(l.options.Coalesce)
	if w.wantsErrors() {
		_ = w.socket.KeepErrors(true)
	}
	w.classes.begin(w.socket, classPatience)
}

func (l *Loop) add(fd int, events uint32, w *watch) error {
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	for fd >= len(l.watched) {
		l.watched = append(l.watched, nil)
	}
	l.watched[fd] = w
	return nil
}

// Modify changes the events of a watched descriptor.
func (l *Loop) Modify(fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl",
		unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// Unwatch undoes Watch or Receive. It must be called before the descriptor is closed.
func (l *Loop) Unwatch(fd int) {
	if fd < 0 || fd >= len(l.watched) || l.watched[fd] == nil {
		return
	}
	l.watched[fd].ended = true
	l.watched[fd] = nil
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// Send sends a datagram by the end of the round: see udp.Outbox.
func (l *Loop) Send(s *udp.Socket, b []byte, to netip.AddrPort, local netip.Addr, class byte, payload int, sender udp.Sender) {
	l.out.Add(s, b, to, local, class, payload, sender)
}

// Class returns the traffic class of the datagram that the loop is passing to a receiver (DSCP and ECN), and 0 for anything else that
// the loop does.
func (l *Loop) Class() byte { return l.class }

// Flush sends the datagrams that Send has collected for s. It must be called before an option of s is changed or s is closed.
func (l *Loop) Flush(s *udp.Socket) { l.out.FlushSocket(s) }

// AfterRound makes the loop call f once at the end of the current round.
func (l *Loop) AfterRound(f func()) { l.after = append(l.after, f) }

// NewAlarm returns an alarm that is not set.
func (l *Loop) NewAlarm(f func(now time.Time)) *Alarm {
	a := &Alarm{f: f}
	l.alarms = append(l.alarms, a)
	return a
}

// RemoveAlarm removes an alarm permanently.
func (l *Loop) RemoveAlarm(a *Alarm) {
	for i, other := range l.alarms {
		if other == a {
			l.alarms = append(l.alarms[:i:i], l.alarms[i+1:]...)
			return
		}
	}
}

// Pass passes a datagram to a receiver on another loop, and reports whether there was room. l is the loop on whose goroutine Pass
// is called, or nil.
func (l *Loop) Pass(to *Loop, r Receiver, from netip.AddrPort, data []byte) bool {
	if l.mayVisit(to) {
		l.visit(to, r, from, data)
		return true
	}
	if !to.mail.admit(len(data)) {
		return false
	}
	if l == nil {
		b := batches.Get().(*batch)
		b.add(r, from, 0, data)
		to.mail.put(b)
		to.wakeUp()
		return true
	}
	for i := range l.passing {
		if l.passing[i].to == to {
			l.passing[i].batch.add(r, from, l.class, data)
			return true
		}
	}
	b := batches.Get().(*batch)
	b.add(r, from, l.Class(), data)
	l.passing = append(l.passing, passing{to, b})
	return true
}

// mayVisit reports whether l may call a receiver on another loop itself, because one thread runs both. A receiver that passes a datagram
// on uses the mailbox, so that calls do not nest.
func (l *Loop) mayVisit(to *Loop) bool {
	if l == nil || l.visitor {
		return false
	}
	t := l.thread.Load()
	return t != nil && to.thread.Load() == t
}

// visit calls a receiver on another loop of the same thread. What it sends leaves at the end of the round of l.
func (l *Loop) visit(to *Loop, r Receiver, from netip.AddrPort, data []byte) {
	to.visitor = true
	to.give(r, data, from, l.class, l.began)
	to.visitor = false
	if !slices.Contains(l.visited, to) {
		l.visited = append(l.visited, to)
	}
}

// due reports whether the loop has anything to do other than handling ready descriptors.
func (l *Loop) due(now time.Time) bool {
	next := l.alarms.next()
	return l.pending() || !l.mail.empty() || !next.IsZero() && !now.Before(next)
}

// pending reports whether the last round has left anything to do.
func (l *Loop) pending() bool { return l.turns.waiting() || !l.late.empty() }

// round handles everything that is ready. It returns the number of packets.
func (l *Loop) round(now time.Time) (packets int) {
	l.began = now
	events := l.events[:l.ready]
	for _, event := range events {
		packets += l.handle(event, now)
	}
	if !l.suspended {
		packets += l.takeTurns(now)
	}
	calls := l.mail.take()
	packets += l.mail.deliver(l.give, now)
	for _, f := range calls {
		l.guard(f)
	}
	if !l.suspended {
		l.guard(func() { l.alarms.run(now) })
	}
	l.finish()
	if l.doLate() {
		l.finish()
	}
	l.count(len(events), packets, now)
	return packets
}

// finish sends the collected datagrams, passes those for loops on other threads, and does the same for the loops that l has visited.
func (l *Loop) finish() {
	for len(l.after) > 0 {
		after := l.after
		l.after = nil
		for _, f := range after {
			l.guard(f)
		}
	}
	l.guard(l.out.Flush)
	for i, p := range l.passing {
		p.to.mail.put(p.batch)
		p.to.wakeUp()
		l.passing[i] = passing{}
	}
	l.passing = l.passing[:0]
	for n := len(l.visited) - 1; n >= 0; n = len(l.visited) - 1 {
		other := l.visited[n]
		l.visited = slices.Delete(l.visited, n, n+1)
		other.finish()
	}
}

// handle handles one ready descriptor, or gives a socket its turn later in the round. It returns the number of events handled.
func (l *Loop) handle(event unix.EpollEvent, now time.Time) (n int) {
	w := l.watched[event.Fd]
	switch {
	case int(event.Fd) == l.wake:
		l.drainWake()
		return 0
	case w == nil: // unwatched earlier in this round
		return 0
	case w.socket == nil:
		if l.suspended { // the system reports it again
			return 0
		}
		l.guard(func() { w.ready(event.Events, now) })
		return 1
	}
	w.failed = w.failed || event.Events&unix.EPOLLERR != 0
	l.receiveLater(w)
	return 0
}

// deliver passes the n datagrams in the inbox to the receiver of w. A panic loses only the datagram that caused it.
func (l *Loop) deliver(w *watch, n int, now time.Time) {
	l.seen = 0
	for i := 0; i < n && !w.ended; {
		l.deliverFrom(&i, w, n, now)
	}
	l.class = 0
	if !w.ended {
		w.classes.note(w.socket, l.seen, n, now.Sub(l.start))
	}
}

func (l *Loop) deliverFrom(i *int, w *watch, n int, now time.Time) {
	defer l.recover()
	for *i < n && !w.ended {
		data, from, local := l.inbox.Datagram(*i)
		l.class = l.inbox.Class(*i)
		l.seen |= l.class
		*i++
		w.receiver.Receive(data, from, local, now)
	}
}

// give passes a datagram from another goroutine to its receiver.
func (l *Loop) give(to Receiver, data []byte, from netip.AddrPort, class byte, now time.Time) {
	defer func() { l.class = 0 }()
	defer l.recover()
	l.class = class
	to.Receive(data, from, netip.Addr{}, now)
}

// guard calls f and recovers from a panic in it.
func (l *Loop) guard(f func()) {
	defer l.recover()
	f()
}

func (l *Loop) recover() {
	if l.options.Panicked == nil {
		return
	}
	if value := recover(); value != nil {
		l.counts.panics.Add(1)
		l.options.Panicked(value, debug.Stack())
	}
}

func (l *Loop) count(events, packets int, now time.Time) {
	l.load.add(packets, now)
	if events == 0 && packets == 0 {
		return
	}
	l.counts.rounds.Store(l.counts.rounds.Load() + 1)
	l.counts.packets.Store(l.counts.packets.Load() + uint64(packets))
	if l.gathered {
		l.counts.gathered.Store(l.counts.gathered.Load() + uint64(packets))
	}
}

// Counts returns what the loop has done. Safe for concurrent use.
func (l *Loop) Counts() Counts {
	c, in, out := &l.counts, l.inbox.Counts(), l.out.Counts()
	return Counts{
		Rounds: c.rounds.Load(), Packets: c.packets.Load(), Gathers: c.gathers.Load(), Gathered: c.gathered.Load(),
		GatherTime: time.Duration(c.gather.Load()), Coalesced: in.Coalesced, Segmented: out.Segmented, Withdrawn: out.Withdrawn,
		Panics: c.panics.Load(),
	}
}
