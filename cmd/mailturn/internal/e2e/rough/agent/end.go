package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
	"github.com/pion/webrtc/v4"
)

// end is one end of a call, with one connection at a time.
type end struct {
	size, rate int // of messages: bytes, and how many a second
	peer       *webrtc.PeerConnection
	channel    atomic.Pointer[webrtc.DataChannel]  // nil until the other end has made it
	selected   atomic.Pointer[webrtc.ICECandidate] // local candidate in use
	quiet      atomic.Bool                         // sends no messages
	counter    counter
	sending    sync.Mutex // held while a text is sent
}

// highWater is how many bytes may wait in the data channel. While more are waiting, because nothing gets through, no messages are
// sent: a call would drop them too, since they would arrive too late.
const highWater = 64 << 10

// use has the connection use the servers: the present one if it restarts, or else a new one. The end that offers makes its data
// channel. A channel that both ends make ("negotiated") would be ordered and reliable, since pion/datachannel 1.6.3 applies the
// options only when the other end acknowledges it.
func (e *end) use(servers []party.Server, restart, offers bool) error {
	configuration := webrtc.Configuration{ICETransportPolicy: webrtc.ICETransportPolicyRelay}
	for _, s := range servers {
		configuration.ICEServers = append(configuration.ICEServers, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	if restart {
		if e.peer == nil {
			return errors.New("there is no connection to restart")
		}
		return e.peer.SetConfiguration(configuration)
	}
	if err := e.close(); err != nil {
		return err
	}
	var err error
	if e.peer, err = webrtc.NewPeerConnection(configuration); err != nil {
		return err
	}
	e.peer.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		fmt.Fprintln(os.Stderr, time.Now().Format(time.TimeOnly), "connection", state)
	})
	e.quiet.Store(false)
	e.selected.Store(nil)
	// GetSelectedCandidatePair is not safe while the connection starts.
	e.peer.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(func(pair *webrtc.ICECandidatePair) {
		e.selected.Store(pair.Local)
	})
	e.channel.Store(nil)
	if !offers {
		e.peer.OnDataChannel(e.open)
		return nil
	}
	channel, err := e.peer.CreateDataChannel("party", &webrtc.DataChannelInit{Ordered: new(false), MaxRetransmits: new(uint16(0))})
	if err != nil {
		return err
	}
	e.open(channel)
	return nil
}

// open makes a data channel the end's.
func (e *end) open(channel *webrtc.DataChannel) {
	e.channel.Store(channel)
	channel.OnMessage(func(message webrtc.DataChannelMessage) {
		if echo := e.counter.received(string(message.Data)); echo != "" {
			e.sendText(channel, echo)
		}
	})
	channel.OnOpen(func() { go e.send(channel) })
}

// send sends messages until the channel is closed.
func (e *end) send(channel *webrtc.DataChannel) {
	e.counter.opened()
	pace := time.NewTicker(time.Second / time.Duration(e.rate))
	defer pace.Stop()
	for range pace.C {
		if channel.ReadyState() != webrtc.DataChannelStateOpen {
			return
		}
		if e.quiet.Load() || channel.BufferedAmount() > highWater {
			continue
		}
		if err := e.sendText(channel, e.counter.message(e.size)); err == nil {
			e.counter.sent()
		}
	}
}

// sendText sends one text at a time. Of two that are sent at once, pion/sctp may give the earlier stream sequence number to the one
// with the later TSN, and aiortc then delivers nothing more.
func (e *end) sendText(channel *webrtc.DataChannel, text string) error {
	e.sending.Lock()
	defer e.sending.Unlock()
	return channel.SendText(text)
}

func (e *end) offer(servers []party.Server, restart bool) (sdp string, err error) {
	if err := e.use(servers, restart, true); err != nil {
		return "", err
	}
	offer, err := e.peer.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return "", err
	}
	return e.describe(offer)
}

func (e *end) answer(servers []party.Server, restart bool, offer string) (sdp string, err error) {
	if err := e.use(servers, restart, false); err != nil {
		return "", err
	}
	if err := e.peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	answer, err := e.peer.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return e.describe(answer)
}

// describe returns the party's own description with all of its candidates.
func (e *end) describe(description webrtc.SessionDescription) (sdp string, err error) {
	complete := webrtc.GatheringCompletePromise(e.peer)
	if err := e.peer.SetLocalDescription(description); err != nil {
		return "", err
	}
	<-complete
	sdp = e.peer.LocalDescription().SDP
	if !strings.Contains(sdp, "a=candidate:") {
		return "", errors.New("no candidate")
	}
	return sdp, nil
}

func (e *end) accept(answer string) error {
	return e.peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

func (e *end) state() (party.State, error) {
	if e.peer == nil {
		return party.State{}, errors.New("there is no connection")
	}
	state := party.State{Connection: e.peer.ConnectionState().String(), Channel: webrtc.DataChannelStateConnecting.String()}
	if channel := e.channel.Load(); channel != nil {
		state.Channel = channel.ReadyState().String()
	}
	state.Relay, state.Current = e.relay()
	return state, nil
}

// relay returns the address of the local candidate in use, and whether that is of the newest description.
func (e *end) relay() (address string, current bool) {
	local := e.selected.Load()
	if local == nil {
		return "", false
	}
	current = strings.Contains(e.peer.LocalDescription().SDP, fmt.Sprintf(" %s %d typ relay", local.Address, local.Port))
	return net.JoinHostPort(local.Address, strconv.Itoa(int(local.Port))), current
}

func (e *end) counted() party.Counts {
	counts := e.counter.take()
	if e.peer != nil {
		counts.Relay, _ = e.relay()
	}
	return counts
}

// close ends the connection, if there is one.
func (e *end) close() error {
	if e.peer == nil {
		return nil
	}
	return e.peer.GracefulClose()
}
