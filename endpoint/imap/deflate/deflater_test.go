package deflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"testing"
)

// readAll reads n bytes, which must be available in the stream written so far.
func readAll(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// TestDeflate checks that another implementation can read each message as soon as it is written.
func TestDeflate(t *testing.T) {
	for name, messages := range samples() {
		var d Deflater
		var stream bytes.Buffer
		r := flate.NewReader(&stream)
		for i, message := range messages {
			for p := message; len(p) > 0; {
				n := min(len(p), 16<<10)
				before := stream.Len()
				d.Deflate(&stream, p[:n])
				if longer := stream.Len() - before - n; longer > 64 {
					t.Errorf("%s: message %d gets %d bytes longer", name, i, longer)
				}
				p = p[n:]
			}
			got, err := readAll(r, len(message))
			if err != nil || !bytes.Equal(got, message) {
				t.Fatalf("%s: message %d is %.100q, %v", name, i, got, err)
			}
		}
		if cap(d.history) > 2*maxHistory {
			t.Errorf("%s: keeps %d bytes", name, cap(d.history))
		}
	}
}

// TestDeflateRatio checks the compression ratio.
func TestDeflateRatio(t *testing.T) {
	all := samples()
	for _, test := range []struct {
		name     string
		messages [][]byte
		percent  int // of the size, at most
	}{
		{"base64", all["base64"], 77},
		{"responses", all["responses"], 30},
		{"short responses", bytes.SplitAfter(all["responses"][1], []byte("\n")), 100},
		{"answers", [][]byte{
			[]byte("A12 OK NOOP completed (0.001 + 0.000 secs).\r\n"), []byte("A13 OK NOOP completed (0.001 + 0.000 secs).\r\n"),
			[]byte("* 5 EXISTS\r\n* 1 RECENT\r\nA14 OK NOOP completed (0.001 + 0.000 secs).\r\n"),
		}, 90},
	} {
		var d Deflater
		var out bytes.Buffer
		size := 0
		for _, message := range test.messages {
			size += len(message)
			for p := message; len(p) > 0; p = p[min(len(p), 16<<10):] {
				d.Deflate(&out, p[:min(len(p), 16<<10)])
			}
		}
		if percent := 100 * out.Len() / size; percent > test.percent {
			t.Errorf("%s: %d bytes of %d, %d %%, want %d %% at most", test.name, out.Len(), size, percent, test.percent)
		}
	}
}

// FuzzDeflate compresses messages and reads them with both implementations. 0xFE in data ends a message, and 0xFD repeats it.
func FuzzDeflate(f *testing.F) {
	for _, messages := range samples() {
		f.Add(bytes.Join(messages, []byte{0xFE})[:min(5000, len(bytes.Join(messages, []byte{0xFE})))])
	}
	f.Add([]byte("abcdefgh\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfeabc\xfeabcdefghabcdefgh"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Deflater
		var stream, all bytes.Buffer
		var inflater Inflater
		var want []byte
		for message := range bytes.SplitSeq(data, []byte{0xFE}) {
			for i := bytes.IndexByte(message, 0xFD); i >= 0 && len(message) < 64<<10; i = bytes.IndexByte(message, 0xFD) {
				message = append(bytes.Repeat(message[:i], 2), message[i+1:]...)
			}
			d.Deflate(&stream, message)
			want = append(want, message...)
			all.Write(stream.Bytes())
			got, err := inflate(&inflater, stream.Next(stream.Len()), 100, 100)
			if err != nil || !bytes.Equal(got, message) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(message), err)
			}
		}
		if got, err := readAll(flate.NewReader(&all), len(want)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("compress/flate: %d bytes of %d, %v", len(got), len(want), err)
		}
	})
}

// BenchmarkDeflate compresses a short answer, and the pieces in which a FETCH response is read.
func BenchmarkDeflate(b *testing.B) {
	all := samples()
	for _, data := range [][]byte{[]byte("A12 OK NOOP completed (0.001 + 0.000 secs).\r\n"), all["responses"][0][:16<<10], all["base64"][0][:16<<10]} {
		b.Run(fmt.Sprintf("%.8q of %d bytes", data, len(data)), func(b *testing.B) {
			var d Deflater
			var out bytes.Buffer
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				d.Deflate(&out, data)
			}
		})
	}
}
