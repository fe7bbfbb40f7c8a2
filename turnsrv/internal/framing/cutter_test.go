package framing

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// cutAll cuts b, which arrives in pieces of the given lengths, repeated as often as necessary. It returns the frames, and the error
// if there was one.
func cutAll(b []byte, pieces []byte, limit int) (frames [][]byte, err error) {
	var c Cutter
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(pieces) > 0 {
			n = min(n, int(pieces[i%len(pieces)])+1)
		}
		piece := bytes.Clone(b[:n]) // as in a shared buffer, which is overwritten afterwards
		for rest := piece; len(rest) > 0; {
			var frame []byte
			if frame, rest, err = c.Cut(rest, limit); err != nil {
				return frames, err
			}
			if frame != nil {
				frames = append(frames, bytes.Clone(frame))
			}
		}
		clear(piece)
		b = b[n:]
	}
	return frames, nil
}

// readAll is cutAll with Next.
func readAll(b []byte) (frames [][]byte, err error) {
	r := bufio.NewReaderSize(bytes.NewReader(b), 16)
	for {
		n, err := Next(r, len(frames) == 0)
		if err != nil {
			return frames, err
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(r, frame); err != nil {
			return frames, err
		}
		frames = append(frames, frame)
	}
}

// FuzzCutter checks that a stream has the same frames, whatever pieces it arrives in.
func FuzzCutter(f *testing.F) {
	binding := "\x00\x01\x00\x00\x21\x12\xa4\x42xxxxxxxxxxxx"
	for _, stream := range []string{
		binding, binding + binding + string(turntest.ChannelData(0x4000, "hello")),
		binding + string(turntest.ChannelData(0x4000, "")) + string(turntest.ChannelData(0x4001, "you")) + binding[:7],
		string(turntest.ChannelData(0x4000, "hello")), "GET / HTTP/1.1\r\n", "\x00\x01\xff\xfc\x21\x12\xa4\x42", binding + "\x00\x01\x00\x00\x21\x12\xa4\x43",
	} {
		f.Add([]byte(stream), []byte{})
		f.Add([]byte(stream), []byte{0})
		f.Add([]byte(stream), []byte{6, 0, 12})
	}
	f.Fuzz(func(t *testing.T, b, pieces []byte) {
		want, wantErr := readAll(b)
		got, err := cutAll(b, pieces, math.MaxInt)
		if errors.Is(wantErr, Err) != errors.Is(err, Err) {
			t.Fatalf("cut with %v, read with %v", err, wantErr)
		}
		if len(got) != len(want) {
			t.Fatalf("cut %d frames, want %d", len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("frame %d is %x, want %x", i, got[i], want[i])
			}
		}
	})
}

// TestCutterLimit checks that the header of a long frame is enough to refuse it.
func TestCutterLimit(t *testing.T) {
	long := []byte("\x00\x01\x0f\xf0\x21\x12\xa4\x42")
	for _, pieces := range [][]byte{nil, {0}} {
		if _, err := cutAll(long, pieces, 4100); err != nil {
			t.Errorf("a frame of 4100 bytes: %v", err)
		}
		if _, err := cutAll(long, pieces, 4099); !errors.Is(err, ErrLong) {
			t.Errorf("a longer frame: %v", err)
		}
	}
}

// TestCutterHoldsNothing checks that a whole frame is not copied, and that no memory is held between frames.
func TestCutterHoldsNothing(t *testing.T) {
	binding := []byte("\x00\x01\x00\x00\x21\x12\xa4\x42xxxxxxxxxxxx")
	var c Cutter
	if frame, rest, err := c.Cut(binding, math.MaxInt); err != nil || &frame[0] != &binding[0] || len(rest) != 0 {
		t.Errorf("cut %x, rest %x, %v", frame, rest, err)
	}
	for _, piece := range [][]byte{binding[:10], binding[10:]} {
		if _, _, err := c.Cut(piece, math.MaxInt); err != nil {
			t.Fatal(err)
		}
	}
	if c.partial != nil {
		t.Errorf("holds %d bytes", cap(c.partial))
	}
}
