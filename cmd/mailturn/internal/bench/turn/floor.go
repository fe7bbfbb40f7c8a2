package turn

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
)

// Names of the forwarder in the report: without TURN, with a wait for more packets, and also with UDP_SEGMENT and UDP_GRO.
const (
	floorName         = "C"
	floorWaitsName    = "C waits"
	floorSegmentsName = "C segments"
)

// floorSource is a program that only forwards packets, without TURN. What it needs is what the kernel costs.
//
//go:embed testdata/floor.c
var floorSource []byte

// floors returns the variants of the forwarder, or none if there is no compiler.
func (b *bench) floors(ctx context.Context) ([]kind, error) {
	if _, err := exec.LookPath("gcc"); err != nil {
		fmt.Fprintln(os.Stderr, "the forwarder in C is left out:", err)
		return nil, nil
	}
	source, binary := filepath.Join(b.dir, "floor.c"), filepath.Join(b.dir, "floor")
	if err := os.WriteFile(source, floorSource, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-o", binary, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile the forwarder: %w\n%s", err, out)
	}
	var kinds []kind
	for _, variant := range []struct {
		name string
		more []string
	}{{floorName, nil}, {floorWaitsName, []string{"250"}}, {floorSegmentsName, []string{"0", "segment"}}} {
		kinds = append(kinds, kind{name: variant.name, forwards: true, command: func(_ string, at address) ([]string, error) {
			return append([]string{binary, at.host.String(), fmt.Sprint(at.port)}, variant.more...), nil
		}})
	}
	return kinds, nil
}

// withTURN returns those of the kinds that are TURN servers.
func withTURN(kinds []kind) []kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.forwards })
}

// prepareFlows fills in calls that the forwarder forwards.
func (b *bench) prepareFlows(ctx context.Context, at address, g *generator.Generator, calls []generator.Call) error {
	clientPort, peerPort := g.Ports()
	for i := range calls {
		local, peer := b.nextClient(), b.network.peer(i)
		conn, err := dialShared(ctx, at, netip.AddrPortFrom(local, clientPort))
		if err != nil {
			return err
		}
		relayed, err := forward(ctx, conn, netip.AddrPortFrom(peer, peerPort))
		_ = conn.Close() // from now on, the generator receives what arrives
		if err != nil {
			return err
		}
		calls[i][generator.Client] = generator.Party{Local: local, Remote: at.plain()}
		calls[i][generator.Peer] = generator.Party{Local: peer, Remote: relayed}
	}
	return nil
}

// forward asks the forwarder at the other end of conn to forward packets to peer, and returns its address towards it.
func forward(ctx context.Context, conn net.Conn, peer netip.AddrPort) (netip.AddrPort, error) {
	request := append([]byte("peer"), peer.Addr().AsSlice()...)
	request = binary.BigEndian.AppendUint16(request, peer.Port())
	answer := make([]byte, 16)
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline) && ctx.Err() == nil; {
		_, _ = conn.Write(request) // fails while nothing listens yet (ICMP)
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := conn.Read(answer); err == nil && n == 2 {
			server := conn.RemoteAddr().(*net.UDPAddr).AddrPort()
			return netip.AddrPortFrom(server.Addr(), binary.BigEndian.Uint16(answer)), nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return netip.AddrPort{}, errors.Join(errors.New("the forwarder does not answer"), ctx.Err())
}
