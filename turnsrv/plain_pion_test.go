package turnsrv

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv/relay"
)

// plainPionVar, if it is set in the environment, has the tests of this package talk to a server of pion's without a front.
// It holds how long to wait for an answer.
const plainPionVar = "TURNSRV_PLAIN_PION"

func onPlainPion() bool { return os.Getenv(plainPionVar) != "" }

// patience is how long a client waits for what has to come.
func patience() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(plainPionVar)); err == nil {
		return d
	}
	return 5 * time.Second
}

// TestRowsFailOnPlainPion is the control of the tests that are named after a fault of pion's (T01 and so on): each must fail
// on pion alone and say what the fault is. Some kill pion or have it spin, so that each runs in a process of its
// own.
//
// What is not here cannot be seen by a client. T02 is mended in the version of pion/stun that go.mod asks for, T37 and T38
// are about what pion makes of its hooks, T43 is about one that it lacks, T33 and T34 are about speed. T03 needs a timer to
// fire within microseconds, and gets a hook that takes a millisecond of the bubble's clock. T30 and T44 are what pion does right.
func TestRowsFailOnPlainPion(t *testing.T) {
	if onPlainPion() {
		t.Fatal("this is the control")
	}
	rows := []struct{ test, want string }{
		{"TestT01FramingDoesNotWrap", "want the connection closed"},
		{"TestT03ExpiryRacesWithCreatePermission", "nil pointer dereference"},
		{"TestT04AcceptErrorsEndNothing", "deadlock"},
		{"TestT05SocketErrorsEndNothing", "no message"},
		{"TestT06ChannelDataOverStream", "no message"},
		{"TestT07WholeOrNotAtAll", "cut to 1600"},
		{"TestT08ByteByByte", "of stack"},
		{"TestT09OtherProtocolsAreClosed", "want the connection closed"},
		{"TestT09UnallocatedConnectionsEnd", "want it closed"},
		{"TestT10CloseEndsConnections", "want the connection closed"},
		{"TestT11DTLSIsUnpadded", "no message"},
		{"TestT12Unauthenticated", "answered 400"},
		{"TestT13ErrorsAreComplete", "without an integrity"},
		{"TestT14UnknownAttributes", "Allocate answered 0"},
		{"TestT15WhatFollowsIntegrity", "0 allocations"},
		{"TestT16FingerprintIsVerified", "the server answered"},
		{"TestT17NoAllocation", "no message"},
		{"TestT18AnotherUser", "answered 0"},
		{"TestT19AnotherRealm", "answered 0"},
		{"TestT20CreatePermissionIsAtomic", "ERROR-CODE"},
		{"TestT21DeniedChannel", "ChannelBind answered 401"},
		{"TestT22PeerOfOtherFamily", "answered 0"},
		{"TestT23RequestedAddressFamily", "Allocate answered 0"},
		{"TestT24AdditionalAddressFamily", "Allocate answered 0"},
		{"TestT25RequestedTransport", "answered"},
		{"TestT26EvenPort", "want 508"},
		{"TestT27DontFragment", "answered 420"},
		{"TestT28Lifetime", "answered 508"},
		{"TestT29ChannelNumbers", "ChannelBind answered 0"},
		{"TestT30ChannelOutlivesPermission", ""},
		{"TestT31Limits", "answered 0"},
		{"TestT32Nonce", "answered 0"},
		{"TestT35AnswersFromTheAddressAsked", "no message"},
		{"TestT36JunkIsNotLogged", "lines"},
		{"TestT39PermissionRefreshedAtItsEnd", "does not work"},
		{"TestT44RetransmittedAllocate", ""},
	}
	type outcome struct {
		output string
		err    error
	}
	outcomes := make([]chan outcome, len(rows))
	atOnce := make(chan struct{}, 8) // most of them wait for an answer that does not come
	for i, row := range rows {
		outcomes[i] = make(chan outcome, 1)
		go func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+row.test+"$", "-test.count=1", "-test.timeout=1m")
			wait := 2 * time.Second
			if row.want == "" {
				wait = 30 * time.Second
			}
			cmd.Env = append(os.Environ(), plainPionVar+"="+wait.String())
			output, err := cmd.CombinedOutput()
			outcomes[i] <- outcome{string(output), err}
		}()
	}
	for i, row := range rows {
		t.Run(row.test, func(t *testing.T) {
			switch got := <-outcomes[i]; {
			case row.want == "" && got.err != nil:
				t.Errorf("pion does this right, and yet the test fails: %v\n%.2000s", got.err, got.output)
			case row.want != "" && got.err == nil:
				t.Errorf("the test passes on plain pion: it cannot fail\n%.2000s", got.output)
			case !strings.Contains(got.output, row.want):
				t.Errorf("the test fails on plain pion, but does not say %q\n%.2000s", row.want, got.output)
			case strings.Contains(got.output, "no tests to run"):
				t.Error("there is no such test")
			}
		})
	}
}

// plainPion serves with pion alone, as its documentation has it, and with the hooks that it has for what config says.
func plainPion(t testing.TB, config Config, listen func(port int) (net.PacketConn, error), packets []net.PacketConn, listeners []net.Listener) *turn.Server {
	t.Helper()
	generator := plainGenerator{listen}
	permitted := func(_ net.Addr, peer net.IP) bool {
		addr, _ := netip.AddrFromSlice(peer)
		_, ok := config.Relay.MayPermit(addr.Unmap())
		return ok
	}
	logger := plainLogger{config}
	pion := turn.ServerConfig{
		Realm: config.Realm, LoggerFactory: logger,
		AuthHandler: turn.LongTermTURNRESTAuthHandler(testSecret, logger.NewLogger("auth")),
	}
	if strings.HasPrefix(t.Name(), "TestT03") {
		pion.EventHandler.OnPermissionCreated = func(net.Addr, net.Addr, string, string, string, net.Addr, net.IP) {
			time.Sleep(time.Millisecond)
		}
	}
	for _, conn := range packets {
		pion.PacketConnConfigs = append(pion.PacketConnConfigs, turn.PacketConnConfig{
			PacketConn: conn, RelayAddressGenerator: generator, PermissionHandler: permitted,
		})
	}
	for _, listener := range listeners {
		pion.ListenerConfigs = append(pion.ListenerConfigs, turn.ListenerConfig{
			Listener: listener, RelayAddressGenerator: generator, PermissionHandler: permitted,
		})
	}
	server, err := turn.NewServer(pion)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// plainGenerator opens relayed addresses on loopback.
type plainGenerator struct {
	listen func(port int) (net.PacketConn, error)
}

func (plainGenerator) Validate() error { return nil }

func (g plainGenerator) AllocatePacketConn(_ string, port int) (net.PacketConn, net.Addr, error) {
	conn, err := g.listen(port)
	if err != nil {
		return nil, nil, err
	}
	return conn, conn.LocalAddr(), nil
}

func (plainGenerator) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, relay.ErrFamily
}

func listenLoopback(port int) (net.PacketConn, error) {
	return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
}

// plainLogger takes what pion says by default to the log of config: errors.
type plainLogger struct{ config Config }

func (l plainLogger) NewLogger(string) logging.LeveledLogger { return plainLeveled{config: l.config} }

type plainLeveled struct {
	dtlsLogger
	config Config
}

func (l plainLeveled) Error(m string) { l.Errorf("%s", m) }
func (l plainLeveled) Errorf(m string, a ...any) {
	if l.config.Logger != nil {
		l.config.Logger.Error(fmt.Sprintf(m, a...))
	}
}
func (plainLeveled) Warn(string)          {}
func (plainLeveled) Warnf(string, ...any) {}

// addressedListener gives the pipes of a pipeListener the addresses of TCP connections, without which pion takes all of
// them for one client.
type addressedListener struct {
	*pipeListener
	next *int
}

func (l addressedListener) Accept() (net.Conn, error) {
	conn, err := l.pipeListener.Accept()
	if err != nil {
		return nil, err
	}
	*l.next++
	return addressedConn{conn, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10000 + *l.next}}, nil
}

type addressedConn struct {
	net.Conn
	addr net.Addr
}

func (c addressedConn) RemoteAddr() net.Addr { return c.addr }
func (c addressedConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478}
}
