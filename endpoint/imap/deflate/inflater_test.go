package deflate

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"
)

// inflate passes src to f in pieces of at most nsrc bytes, and reads the output in pieces of at most ndst.
func inflate(f *Inflater, src []byte, nsrc, ndst int) (out []byte, err error) {
	dst := make([]byte, ndst)
	for {
		piece := src[:min(nsrc, len(src))]
		n, used, err := f.Inflate(dst, piece)
		out = append(out, dst[:n]...)
		src = src[used:]
		if err != nil {
			return out, err
		}
		if n == 0 && used == 0 && len(piece) == len(src) {
			return out, nil
		}
	}
}

// samples are streams of messages of several kinds.
func samples() map[string][][]byte {
	random := rand.NewChaCha8([32]byte{1})
	octets := make([]byte, 100<<10)
	random.Read(octets)
	var responses bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&responses, "* %d FETCH (UID %d FLAGS (\\Seen) RFC822.SIZE %d)\r\n", i, 3*i, octets[i])
	}
	return map[string][][]byte{
		"commands": {
			[]byte("a1 NOOP\r\n"), []byte("a2 GETMETADATA \"\" (/shared/vendor/deltachat/turn)\r\n"), []byte("\r\n"),
			[]byte("a3 GETMETADATA \"\" (/shared/vendor/deltachat/turn)\r\n"), []byte("a4 IDLE\r\n"), []byte("DONE\r\n"),
		},
		"binary":         {octets[:1], octets[:2], octets[:70000]},
		"base64":         {[]byte(base64.StdEncoding.EncodeToString(octets))},
		"responses":      {responses.Bytes(), responses.Bytes()[:100], responses.Bytes()},
		"far references": {octets[:32767], octets[:300], octets[10:32000], octets[:40000]},
		"zeros":          {make([]byte, 200<<10), []byte("a"), make([]byte, 100)},
		"nothing":        {{}, []byte("a"), {}},
	}
}

// TestFlushed checks that an Inflater reads no further than to the end of a flush, or of the stream, however it is cut: what
// follows need not be a DEFLATE stream.
func TestFlushed(t *testing.T) {
	const text, after = "a UNAUTHENTICATE\r\n", "b LOGIN alice secret\r\n"
	for name, end := range map[string]func(*flate.Writer) error{"flush": (*flate.Writer).Flush, "end": (*flate.Writer).Close} {
		t.Run(name, func(t *testing.T) {
			for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
				var stream bytes.Buffer
				w, err := flate.NewWriter(&stream, level)
				if err != nil {
					t.Fatal(err)
				}
				w.Write([]byte(text))
				if err := end(w); err != nil {
					t.Fatal(err)
				}
				size := stream.Len()
				stream.WriteString(after)
				for cut := 1; cut <= stream.Len(); cut++ {
					var f Inflater
					var out []byte
					dst := make([]byte, 100)
					read, rest := 0, stream.Bytes()
					for len(rest) > 0 && !f.Flushed() {
						n, used, err := f.Inflate(dst, rest[:min(cut, len(rest))])
						if err != nil && err != io.EOF {
							t.Fatal(err)
						}
						out, read, rest = append(out, dst[:n]...), read+used, rest[used:]
					}
					if read != size || string(out) != text {
						t.Fatalf("level %d, %d bytes at a time: read %d bytes to %q, want %d", level, cut, read, out, size)
					}
				}
			}
		})
	}
}

// TestInflate checks that everything that another implementation has flushed comes out, however the stream is cut.
func TestInflate(t *testing.T) {
	for name, messages := range samples() {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.BestCompression} {
			for _, size := range [][2]int{{1, 1}, {7, 1 << 14}, {1 << 14, 1 << 14}, {1 << 30, 100}} {
				var f Inflater
				var stream bytes.Buffer
				w, err := flate.NewWriter(&stream, level)
				if err != nil {
					t.Fatal(err)
				}
				for i, message := range messages {
					w.Write(message)
					w.Flush()
					got, err := inflate(&f, stream.Next(stream.Len()), size[0], size[1])
					if err != nil || !bytes.Equal(got, message) {
						t.Fatalf("%s, level %d, cut to %v: message %d is %.100q (%d bytes), %v", name, level, size, i, got, len(got), err)
					}
				}
				if cap(f.window.b) > windowSize {
					t.Fatalf("%s: window of %d bytes", name, cap(f.window.b))
				}
				w.Close()
				stream.WriteString("more")
				for range 2 {
					if got, err := inflate(&f, stream.Bytes(), size[0], size[1]); err != io.EOF || len(got) > 0 {
						t.Fatalf("%s: after the end: got %q, %v", name, got, err)
					}
				}
			}
		}
	}
}

// TestInflateFlushed checks the ways in which zlib flushes, of which compress/flate has one. After Z_PARTIAL_FLUSH and Z_BLOCK the
// message ends within a byte. The streams were made with zlib 1.2.13:
//
//	c = zlib.compressobj(6, zlib.DEFLATED, -15); c.compress(message) + c.flush(mode)
func TestInflateFlushed(t *testing.T) {
	messages := samples()["commands"]
	messages = [][]byte{messages[0], messages[1], messages[3], messages[4]}
	for mode, pieces := range map[string][]string{
		"Z_PARTIAL_FLUSH": {"4a3454f0f3f70fe0e50208", "a044230577d7105fd7104717c71047052525050dfde28cc4a2d414fdb2d4bc94fc22fd94d49c92c4e48cc412fd92d2a23c4d5e2e8000",
			"4a3426590b40", "00259a2878baf8b8f2720104", "1800"},
		"Z_SYNC_FLUSH": {"4a3454f0f3f70fe0e502000000ffff", "4a345270770df1750d7174710c7154505252d0d02fce482c4a4dd12f4bcd4bc92fd24f49cd29494cce482cd12f292dcad3e4e502000000ffff",
			"4a3426590b000000ffff", "4a3451f074f171e5e502000000ffff", "0300"},
		"Z_FULL_FLUSH": {"4a3454f0f3f70fe0e502000000ffff", "4a345270770df1750d7174710c7154505252d0d02fce482c4a4dd12f4bcd4bc92fd24f49cd29494cce482cd12f292dcad3e4e502000000ffff",
			"4a345670770df1750d7174710c7154505252d0d02fce482c4a4dd12f4bcd4bc92fd24f49cd29494cce482cd12f292dcad3e4e502000000ffff", "4a3451f074f171e5e502000000ffff", "0300"},
		"Z_BLOCK": {"4a3454f0f3f70fe0e502", "28d148c1dd35c4d735c4d1c531c4514149494143bf3823b1283545bf2c352f25bf483f2535a724313923b144bfa4b4284f93970b",
			"a0446392b500", "9468a2e0e9e2e3cacb05", "1800"},
		"level 0, Z_PARTIAL_FLUSH": {"000900f6ff6131204e4f4f500d0a02", "003300ccff6132204745544d4554414441544120222220282f7368617265642f76656e646f722f64656c7461636861742f7475726e290d0a02",
			"003300ccff6133204745544d4554414441544120222220282f7368617265642f76656e646f722f64656c7461636861742f7475726e290d0a02", "000900f6ff61342049444c450d0a02", "040000ffff"},
	} {
		for _, size := range []int{1, 1000} {
			var f Inflater
			for i, piece := range pieces {
				stream, err := hex.DecodeString(piece)
				if err != nil {
					t.Fatal(err)
				}
				got, err := inflate(&f, stream, size, 10)
				if i == len(messages) {
					if err != io.EOF || len(got) > 0 {
						t.Errorf("%s: at the end: %q, %v", mode, got, err)
					}
				} else if err != nil || !bytes.Equal(got, messages[i]) {
					t.Errorf("%s: message %d is %q, %v, want %q", mode, i, got, err, messages[i])
				}
			}
		}
	}
}

// bits returns the stream of the zeros and ones in text: numbers begin with their lowest bit, Huffman codes with the highest.
func bits(text string) (stream []byte) {
	text = strings.ReplaceAll(text, " ", "")
	stream = make([]byte, (len(text)+7)/8)
	for i, bit := range []byte(text) {
		stream[i/8] |= (bit - '0') << (i % 8)
	}
	return stream
}

func TestInflateCorrupt(t *testing.T) {
	for _, test := range []struct {
		name, stream string
		want         string // what comes before
	}{
		{"block of type 3", "0 11", ""},
		{"length and its complement differ", "0 00 00000 1000000000000000 1111111111111111", ""},
		{"literal 286", "0 10 11000110", ""},
		{"distance before the beginning", "0 10 10010001 0000001 00001", "a"},
		{"distance 30", "0 10 10010001 0000001 11110", "a"},
		{"287 literals", "0 01 01111 00000 0000", ""},
		{"31 distances", "0 01 00000 01111 0000", ""},
		{"too many codes", "0 01 00000 00000 0000 100 100 100 000", ""},
		{"too few codes", "0 01 00000 00000 0000 010 000 000 000", ""},
		{"no codes", "0 01 00000 00000 0000 000 000 000 000 000000000000000", ""},
		{"repetition of nothing", "0 01 00000 00000 0000 100 100 000 000 0 00", ""},
		{"repetition beyond the end", "0 01 00000 00000 0000 000 000 100 100 1 1111111 1 1111111", ""},
		{"length where there are no distances", "0 01 10000 00000 0111 000 000 100 010 " + strings.Repeat("000", 13) + " 010" +
			"0 1111111 0 1101011 11 11 10" + "1 000000000000000", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream := bits(test.stream)
			if _, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(stream, 0, 0, 0)))); !errors.As(err, new(flate.CorruptInputError)) {
				t.Fatalf("compress/flate accepts it: %v", err)
			}
			var f Inflater
			for range 2 {
				got, err := inflate(&f, stream, 1, 1)
				if !errors.Is(err, ErrCorrupt) || string(got) != test.want {
					t.Errorf("%q, %v, want %q and ErrCorrupt", got, err, test.want)
				}
				test.want = ""
			}
		})
	}
}

// TestInflaterSize checks the size of an Inflater that has inflated little.
func TestInflaterSize(t *testing.T) {
	var f Inflater
	var stream bytes.Buffer
	w, err := flate.NewWriter(&stream, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, strings.Repeat("a1 NOOP\r\n", 100))
	w.Flush()
	if _, err := inflate(&f, stream.Bytes(), 1<<10, 1<<10); err != nil {
		t.Fatal(err)
	}
	if size := int(unsafe.Sizeof(f)) + cap(f.window.b); size > 2<<10+900 {
		t.Errorf("an Inflater that has inflated 900 bytes takes %d", size)
	}
}

// FuzzInflate compares with compress/flate on any stream.
func FuzzInflate(f *testing.F) {
	for _, messages := range samples() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			var stream bytes.Buffer
			w, err := flate.NewWriter(&stream, level)
			if err != nil {
				f.Fatal(err)
			}
			for _, message := range messages {
				w.Write(message[:min(len(message), 2000)])
				w.Flush()
			}
			f.Add(bytes.Clone(stream.Bytes()), uint16(1), uint16(7))
			w.Close()
			f.Add(stream.Bytes(), uint16(9), uint16(1))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, nsrc, ndst uint16) {
		const limit = 1 << 20
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(stream)), limit))
		if len(want) == limit {
			return
		}
		var inflater Inflater
		got, err := inflate(&inflater, stream, 1+int(nsrc), 1+int(ndst))
		_, corrupt := errors.AsType[flate.CorruptInputError](wantErr)
		switch {
		case wantErr == nil: // the stream's end
			if err != io.EOF || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v, want %d and the end", len(got), err, len(want))
			}
		case corrupt:
			if err == nil { // compress/flate knows of a code that is none before it has 15 bits
				_, _, err = inflater.Inflate(make([]byte, 1), []byte{0xFF, 0xFF})
			}
			if !errors.Is(err, ErrCorrupt) || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v, want %d and %v", len(got), err, len(want), wantErr)
			}
		default:
			// compress/flate reads beyond the next symbol, and may stop before the end of the input.
			if err == io.EOF || !bytes.HasPrefix(got, want) {
				t.Errorf("got %d bytes, %v, want %d at least", len(got), err, len(want))
			}
		}
	})
}

// BenchmarkInflate inflates mail as text, and attachments.
func BenchmarkInflate(b *testing.B) {
	for _, name := range []string{"responses", "base64"} {
		data := samples()[name][0]
		var stream bytes.Buffer
		w, err := flate.NewWriter(&stream, flate.DefaultCompression)
		if err != nil {
			b.Fatal(err)
		}
		w.Write(data)
		w.Flush()
		dst := make([]byte, 16<<10)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				var f Inflater
				for src := stream.Bytes(); len(src) > 0; {
					_, used, err := f.Inflate(dst, src)
					if err != nil {
						b.Fatal(err)
					}
					src = src[used:]
				}
			}
		})
	}
}

// BenchmarkEmptyBlocks inflates empty blocks, the most work that a byte can cause.
func BenchmarkEmptyBlocks(b *testing.B) {
	// A fixed block: header 0 (not final), type 01, end of block 0000000; ten bits, so five bytes hold four.
	var bits []byte
	for range 4 {
		bits = append(bits, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	five := make([]byte, 5)
	for i, bit := range bits {
		five[i/8] |= bit << (i % 8)
	}
	var src []byte
	for range 4096 / 5 {
		src = append(src, five...)
	}
	b.SetBytes(int64(len(src)))
	dst := make([]byte, 100)
	for b.Loop() {
		var f Inflater
		if n, used, err := f.Inflate(dst, src); n != 0 || used != len(src) || err != nil {
			b.Fatal(n, used, err)
		}
	}
}
