package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

const (
	audioPackets  = 100
	audioInterval = 10 * time.Millisecond
	echoes        = 50
	// joinLimit is how long a participant waits for a connection. One with the wrong secret takes all of it.
	joinLimit = 5 * time.Second
)

// TestRelayedSDK lets two participants with LiveKit's Go SDK hear each other, and exchange data, through the relay alone.
func TestRelayedSDK(t *testing.T) {
	for _, over := range ways {
		if over.family == "IPv6" {
			continue // TestSDKWithoutIPv6 says why
		}
		t.Run(over.String(), func(t *testing.T) {
			s := startServers(t, over, turnSecret)
			call := newElementCall(t, s.url)

			heard := make(chan uint16, audioPackets)
			atAlice, atBob := make(chan []byte, 1), make(chan []byte, 1)
			hearer, err := call.join(t, call.token(t, bob, apiSecret), lksdk.ParticipantCallback{
				OnTrackSubscribed: func(track *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) {
					defer close(heard)
					for range audioPackets {
						packet, _, err := track.ReadRTP()
						if err != nil {
							return
						}
						heard <- packet.SequenceNumber
					}
				},
				OnDataPacket: func(data lksdk.DataPacket, _ lksdk.DataReceiveParams) { atBob <- data.(*lksdk.UserDataPacket).Payload },
			})
			if err != nil {
				t.Fatal(err)
			}
			speaker, err := call.join(t, call.token(t, alice, apiSecret), lksdk.ParticipantCallback{
				OnDataPacket: func(data lksdk.DataPacket, _ lksdk.DataReceiveParams) {
					atAlice <- data.(*lksdk.UserDataPacket).Payload
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			track, err := lksdk.NewLocalTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := speaker.LocalParticipant.PublishTrack(track, &lksdk.TrackPublicationOptions{Name: "audio", Source: livekit.TrackSource_MICROPHONE}); err != nil {
				t.Fatal(err)
			}
			lost := hear(t, track, heard)
			trip := echo(t, [2]*lksdk.Room{speaker, hearer}, [2]<-chan []byte{atBob, atAlice})
			for name, participant := range map[string]*lksdk.Room{"alice": speaker, "bob": hearer} {
				if err := onlyRelayed(participant.LocalParticipant); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			toPeer, toClient := relayed(t, s.httpPort, "to_peer"), relayed(t, s.httpPort, "to_client")
			if want := uint64(audioPackets * len(audio)); toPeer < want || toClient < want {
				t.Errorf("mailturn relayed %d and %d bytes, want %d and more each way", toPeer, toClient, want)
			}
			if lost > audioPackets/20 {
				t.Errorf("%d packets were lost among %d", lost, audioPackets)
			}
			if !participantsName.MatchString(s.mailturn.String()) {
				t.Error("no allocation of a participant's name in the log")
			}
			interop.Record(t, interop.Cell{
				Kind: interop.Door, Name: "LiveKit", Version: moduleVersion(t, "github.com/livekit/livekit-server"),
				How: "the relay's secret in rtc.turn_servers: its clients relay under credentials that it issues", Control: "another secret",
			})
			interop.Record(t, interop.Cell{
				Kind: interop.Client, Name: "LiveKit's Go SDK", Version: lksdk.Version, Transport: strings.ToUpper(over.protocol), Family: over.family,
				How:     fmt.Sprintf("shared secret, by LiveKit (%s), with tokens as lk-jwt-service (commit a375b13) makes them", moduleVersion(t, "github.com/livekit/livekit-server")),
				Figures: fmt.Sprintf("%d of %d packets lost, round trip %.1f ms", lost, audioPackets, 1000*trip.Seconds()),
				Control: over.controls("wrong secret; token of another secret"),
			})
		})
	}
}

// audio is what every packet of it holds.
var audio = make([]byte, 500)

// hear writes audio until audioPackets of it have arrived, and returns how many were lost in between.
func hear(t *testing.T, track *lksdk.LocalTrack, heard <-chan uint16) (lost int) {
	t.Helper()
	pace := time.NewTicker(audioInterval)
	defer pace.Stop()
	limit := time.After(startLimit)
	var first, last uint16
	count := 0
	for {
		select {
		case <-pace.C:
			if err := track.WriteSample(media.Sample{Data: audio, Duration: audioInterval}, nil); err != nil {
				t.Fatal(err)
			}
		case number, open := <-heard:
			if !open {
				if count != audioPackets {
					t.Fatalf("the track ended after %d packets", count)
				}
				return int(last-first) + 1 - count
			}
			if count == 0 {
				first, last = number, number
			}
			if number-last < 1<<15 {
				last = number
			}
			count++
		case <-limit:
			t.Fatalf("%d of %d packets were heard in %v", count, audioPackets, startLimit)
		}
	}
}

// echo sends data from the first participant to the second, packet by packet, which sends it back. It returns the median of the
// round-trip times.
func echo(t *testing.T, participants [2]*lksdk.Room, arrived [2]<-chan []byte) time.Duration {
	t.Helper()
	limit := time.After(startLimit)
	var trips []time.Duration
	for i := range echoes {
		begin := time.Now()
		data := binary.BigEndian.AppendUint32(make([]byte, 500), uint32(i))
		for j, p := range participants {
			if err := p.LocalParticipant.PublishDataPacket(lksdk.UserData(data), lksdk.WithDataPublishReliable(true)); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-arrived[j]:
				if !slices.Equal(got, data) {
					t.Fatalf("packet %d arrived as another one", i)
				}
			case <-limit:
				t.Fatalf("%d of %d packets of data came back in %v", i, echoes, startLimit)
			}
		}
		trips = append(trips, time.Since(begin))
	}
	slices.Sort(trips)
	return trips[len(trips)/2]
}

// onlyRelayed returns an error unless both connections of the participant go over the relay.
func onlyRelayed(p *lksdk.LocalParticipant) error {
	for _, peer := range []*webrtc.PeerConnection{p.GetPublisherPeerConnection(), p.GetSubscriberPeerConnection()} {
		if peer == nil {
			return errors.New("a connection is missing")
		}
		pair, err := peer.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil {
			return err
		}
		if pair == nil || pair.Local.Typ != webrtc.ICECandidateTypeRelay {
			return fmt.Errorf("a connection goes over %v", pair)
		}
	}
	return nil
}

// TestRefusedSDK checks that a participant does not connect when LiveKit has another secret than the relay or names it by an
// address that is not in its certificate, nor with a token under another secret than LiveKit's.
func TestRefusedSDK(t *testing.T) {
	for _, over := range ways {
		if over.family == "IPv6" {
			continue // where nobody asks
		}
		t.Run(over.String(), func(t *testing.T) {
			s := startServers(t, over, "a secret that mailturn does not have")
			call := newElementCall(t, s.url)
			if _, err := call.join(t, call.token(t, alice, apiSecret), lksdk.ParticipantCallback{}); err == nil {
				t.Error("a participant joined without a relay")
			}
			if log := s.mailturn.String(); strings.Contains(log, "allocation made") || !participantsName.MatchString(log) {
				t.Errorf("the relay was not asked, or made an allocation:\n%s", log)
			}
		})
	}
	t.Run("certificate of another name", func(t *testing.T) {
		s := startServers(t, otherName, turnSecret)
		call := newElementCall(t, s.url)
		if _, err := call.join(t, call.token(t, alice, apiSecret), lksdk.ParticipantCallback{}); err == nil {
			t.Error("a participant joined over a relay whose certificate names another one")
		}
	})
	t.Run("token", func(t *testing.T) {
		s := startServers(t, ways[0], turnSecret)
		call := newElementCall(t, s.url)
		if _, err := call.join(t, call.token(t, alice, strings.Repeat("another secret", 3)), lksdk.ParticipantCallback{}); err == nil {
			t.Error("a participant joined with a token of another secret")
		}
	})
}

// TestSDKWithoutIPv6 checks the reason that docs/interop.md gives for the empty cells: gatherCandidatesRelay in
// gather.go of pion/ice 4.4.0 leaves out relays over IPv6. Once a participant joins, TestRelayedSDK has to go over IPv6 too.
func TestSDKWithoutIPv6(t *testing.T) {
	s := startServers(t, ways[3], turnSecret)
	call := newElementCall(t, s.url)
	if _, err := call.join(t, call.token(t, alice, apiSecret), lksdk.ParticipantCallback{}); err == nil {
		t.Error("a participant joined over IPv6")
	}
	if participantsName.MatchString(s.mailturn.String()) {
		t.Errorf("the relay was asked:\n%s", s.mailturn)
	}
}

// moduleVersion returns the version of a module that go.mod names.
func moduleVersion(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}
