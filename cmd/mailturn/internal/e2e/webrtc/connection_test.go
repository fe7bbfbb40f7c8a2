// Package webrtc_test connects peers of pion/webrtc, the WebRTC of programs in Go, over mailturn. It is a module of its own, so
// that pion/webrtc does not become a dependency of mailturn.
package webrtc_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	// limit is how long one step may take on a busy machine.
	limit = 30 * time.Second
	// messages of messageSize bytes go to the other end and back, one every interval, along with as many packets of media,
	// which go one way. They are too large for two of them to share a packet.
	messages    = 200
	messageSize = 1000
	interval    = 2 * time.Millisecond
	// lossLimit is how many packets of media may be lost between sockets of loopback.
	lossLimit = messages / 20
)

var transports, families = []string{"UDP", "TCP", "TLS", "DTLS"}, []string{"IPv4", "IPv6"}

// control is what TestRefused sees fail over a transport.
func control(transport string) string {
	if strings.HasSuffix(transport, "TLS") {
		return "wrong password; certificate of another name"
	}
	return "wrong password"
}

// TestConnections connects two peers over the relay alone, each with its own credential from IMAP METADATA.
func TestConnections(t *testing.T) {
	r := startRelay(t)
	version := pionVersion(t)
	for _, transport := range transports {
		for _, family := range families {
			t.Run(transport+" and "+family, func(t *testing.T) {
				c := connect(t, r.discover(t, users[0], transport, family), r.discover(t, users[1], transport, family))
				relayed := c.relayed(t)
				lost, trip := c.exchange(t)
				c.close(t)
				if lost > lossLimit {
					t.Errorf("%d of %d packets of media were lost", lost, messages)
				}
				for _, address := range relayed {
					client, over, toPeer, toClient := r.ended(t, address)
					if over != transport || client.Addr().Unmap() != addresses[family] {
						t.Errorf("the client of %s is %v over %s", address, client, over)
					}
					if toPeer < messages || toClient < messages {
						t.Errorf("%d and %d packets were relayed for %s, want more than %d", toPeer, toClient, address, messages)
					}
				}
				interop.Record(t, interop.Cell{
					Kind: interop.Client, Name: "pion/webrtc", Version: version, How: "IMAP METADATA", Transport: transport, Family: family,
					Figures: fmt.Sprintf("%d of %d packets lost, round trip %.1f ms", lost, messages, 1000*trip.Seconds()),
					Control: control(transport),
				})
			})
		}
	}
}

// TestRefused checks that a peer gets neither a candidate nor an allocation with a wrong password, or at an address that is not in
// the relay's certificate.
func TestRefused(t *testing.T) {
	r := startRelay(t)
	refused := func(t *testing.T, server webrtc.ICEServer) {
		t.Helper()
		t.Parallel()
		gathered := candidates(t, newPeer(t, server))
		if len(gathered) != 0 {
			t.Errorf("the peer has candidates: %v", gathered)
		}
	}
	t.Run("with", func(t *testing.T) { // waits for the parallel ones
		for _, transport := range transports {
			for _, family := range families {
				t.Run("a wrong password over "+transport+" and "+family, func(t *testing.T) {
					server := r.discover(t, users[0], transport, family)
					server.Credential = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
					refused(t, server)
				})
			}
		}
		for _, transport := range []string{"TLS", "DTLS"} {
			t.Run("the certificate of another name over "+transport, func(t *testing.T) {
				server := r.discover(t, users[0], transport, "IPv4")
				server.URLs[0] = strings.Replace(server.URLs[0], addresses["IPv4"].String(), otherAddress, 1)
				refused(t, server)
			})
		}
	})
	if log := r.Log(); strings.Contains(log, "allocation made") {
		t.Errorf("there was an allocation:\n%s", log)
	}
}

// pionVersion is the one that go.mod names.
func pionVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/pion/webrtc/v4").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}

// newPeer makes a peer that uses nothing but the server's relayed addresses.
func newPeer(t *testing.T, server webrtc.ICEServer) *webrtc.PeerConnection {
	t.Helper()
	peer, err := webrtc.NewPeerConnection(webrtc.Configuration{
		ICEServers: []webrtc.ICEServer{server}, ICETransportPolicy: webrtc.ICETransportPolicyRelay,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return peer
}

// candidates has a peer gather them for a data channel.
func candidates(t *testing.T, peer *webrtc.PeerConnection) (gathered []string) {
	t.Helper()
	if _, err := peer.CreateDataChannel("data", nil); err != nil {
		t.Fatal(err)
	}
	offer, err := peer.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(describe(t, peer, offer).SDP) {
		if strings.HasPrefix(line, "a=candidate:") {
			gathered = append(gathered, strings.TrimSpace(line))
		}
	}
	return gathered
}

// describe returns the peer's own description, with all of its candidates.
func describe(t *testing.T, peer *webrtc.PeerConnection, description webrtc.SessionDescription) webrtc.SessionDescription {
	t.Helper()
	complete := webrtc.GatheringCompletePromise(peer)
	if err := peer.SetLocalDescription(description); err != nil {
		t.Fatal(err)
	}
	wait(t, complete, "gather candidates")
	return *peer.LocalDescription()
}

// wait waits until a channel is closed.
func wait(t *testing.T, closed <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-closed:
	case <-time.After(limit):
		t.Fatalf("it takes longer than %v to %s", limit, what)
	}
}

// call is two peers that are connected. The first one sends media, and data that the second one returns.
type call struct {
	peers  [2]*webrtc.PeerConnection
	data   *webrtc.DataChannel
	track  *webrtc.TrackLocalStaticRTP
	echoes chan []byte
	media  chan uint16 // sequence numbers that have arrived
}

// connect makes a call with one server for each peer.
func connect(t *testing.T, servers ...webrtc.ICEServer) *call {
	t.Helper()
	c := &call{echoes: make(chan []byte, messages), media: make(chan uint16, messages)}
	opened := make(chan struct{})
	connected := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	for i, server := range servers {
		c.peers[i] = newPeer(t, server)
		c.peers[i].OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
			if state == webrtc.PeerConnectionStateConnected {
				close(connected[i])
			}
		})
	}
	var err error
	if c.track, err = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio", "stream"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.peers[0].AddTrack(c.track); err != nil {
		t.Fatal(err)
	}
	if c.data, err = c.peers[0].CreateDataChannel("data", nil); err != nil {
		t.Fatal(err)
	}
	c.data.OnOpen(func() { close(opened) })
	c.data.OnMessage(func(message webrtc.DataChannelMessage) { c.echoes <- message.Data })
	c.peers[1].OnDataChannel(func(channel *webrtc.DataChannel) {
		channel.OnMessage(func(message webrtc.DataChannelMessage) { channel.Send(message.Data) })
	})
	c.peers[1].OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				close(c.media)
				return
			}
			c.media <- packet.SequenceNumber
		}
	})

	offer, err := c.peers[0].CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.peers[1].SetRemoteDescription(describe(t, c.peers[0], offer)); err != nil {
		t.Fatal(err)
	}
	answer, err := c.peers[1].CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.peers[0].SetRemoteDescription(describe(t, c.peers[1], answer)); err != nil {
		t.Fatal(err)
	}
	wait(t, connected[0], "connect the first peer")
	wait(t, connected[1], "connect the second peer")
	wait(t, opened, "open the data channel")
	return c
}

// relayed returns the addresses of both peers, which have to be relayed ones.
func (c *call) relayed(t *testing.T) (relayed []string) {
	t.Helper()
	for _, peer := range c.peers {
		pair, err := peer.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil || pair == nil {
			t.Fatalf("no pair of candidates is selected: %v", err)
		}
		if pair.Local.Typ != webrtc.ICECandidateTypeRelay {
			t.Errorf("the candidate %v is in use", pair.Local)
		}
		relayed = append(relayed, netip.AddrPortFrom(netip.MustParseAddr(pair.Local.Address), pair.Local.Port).String())
	}
	return relayed
}

// exchange sends messages and media, and checks that all messages come back. It returns the number of lost media packets, and the
// median round-trip time of the messages.
func (c *call) exchange(t *testing.T) (lost int, median time.Duration) {
	t.Helper()
	begin := time.Now()
	go func() {
		pace := time.NewTicker(interval)
		defer pace.Stop()
		for i := range messages {
			message := bytes.Repeat([]byte{byte(i)}, messageSize)
			binary.BigEndian.PutUint64(message, uint64(time.Since(begin)))
			c.data.Send(message)
			c.track.WriteRTP(&rtp.Packet{
				Header:  rtp.Header{Version: 2, SequenceNumber: uint16(i), Timestamp: uint32(i) * 960},
				Payload: bytes.Repeat([]byte{byte(i)}, messageSize),
			})
			<-pace.C
		}
	}()
	deadline := time.After(limit)
	var trips []time.Duration
	for len(trips) < messages {
		select {
		case echo := <-c.echoes:
			want := bytes.Repeat([]byte{byte(len(trips))}, messageSize-8)
			if len(echo) != messageSize || !bytes.Equal(echo[8:], want) {
				t.Fatalf("message %d came back as %d other bytes", len(trips), len(echo))
			}
			trips = append(trips, time.Since(begin)-time.Duration(binary.BigEndian.Uint64(echo)))
		case <-deadline:
			t.Fatalf("%d of %d messages came back in %v", len(trips), messages, limit)
		}
	}
	slices.Sort(trips)

	arrived := make(map[uint16]bool)
	// All messages have come back by now. Media that takes another second is lost.
	late := time.After(time.Second)
	for len(arrived) < messages {
		select {
		case number, open := <-c.media:
			if !open {
				t.Fatal("the track has ended")
			}
			arrived[number] = true
			continue
		case <-late:
		}
		break
	}
	return messages - len(arrived), trips[len(trips)/2]
}

// close ends both peers, and with them their allocations.
func (c *call) close(t *testing.T) {
	t.Helper()
	for _, peer := range c.peers {
		if err := peer.GracefulClose(); err != nil {
			t.Error(err)
		}
	}
}
