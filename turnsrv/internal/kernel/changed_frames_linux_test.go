//go:build amd64 || arm64

package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestChangedFrames changes bytes of valid frames at random. What leaves must go to one of the two parties, with the checksum as right
// or wrong as it was; everything else must be passed up unmodified.
func TestChangedFrames(t *testing.T) {
	now := time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, _ := offload(t, b, now)
			left := 0
			for range 20000 {
				original := frame{from: b.Peer, to: b.Relay, payload: data(random.IntN(200)), hops: 64}
				want := frame{from: b.Server, to: b.Client}
				if random.IntN(2) == 0 {
					original = frame{from: b.Client, to: b.Server, payload: channelData(number, data(random.IntN(200))), hops: 64}
					want = frame{from: b.Relay, to: b.Peer}
				}
				in := original.bytes()
				for range 1 + random.IntN(2) {
					in[random.IntN(min(len(in), 90))] = byte(random.Uint32())
				}
				in = in[:max(len(in)-random.IntN(3)/2, 14)]
				result, out := run(t, p, in, nil)
				if result == passedUp {
					if !bytes.Equal(out, in) {
						t.Fatalf("%x became %x and was passed up", in, out)
					}
					continue
				}
				left++
				if result != redirected {
					t.Fatalf("result %d for %x", result, in)
				}
				if addresses, wanted := addressesOf(out), addressesOf(want.bytes()); addresses != wanted {
					t.Fatalf("%x left as %x, with addresses %s, want %s", in, out, addresses, wanted)
				}
				if was, is := validUDP(in), validUDP(out); was != is {
					t.Fatalf("%x left as %x: the checksum's validity changed from %v to %v", in, out, was, is)
				}
			}
			if left < 100 {
				t.Errorf("only %d frames were relayed", left)
			}
		})
	}
}

// addressesOf returns the addresses and ports of a frame.
func addressesOf(f []byte) string {
	if f[12] == 8 {
		return fmt.Sprintf("%x", f[14+12:14+24])
	}
	return fmt.Sprintf("%x", f[14+8:14+44])
}

// validUDP reports whether a frame has a valid UDP checksum.
func validUDP(f []byte) bool {
	var pseudo, udp []byte
	if f[12] == 8 {
		udp = f[14+20:]
		pseudo = append(pseudo, f[14+12:14+20]...)
	} else {
		udp = f[14+40:]
		pseudo = append(pseudo, f[14+8:14+40]...)
	}
	udp = udp[:int(udp[4])<<8|int(udp[5])]
	pseudo = append(pseudo, 0, 17, udp[4], udp[5])
	return checksum(append(pseudo, udp...)) == 0
}
