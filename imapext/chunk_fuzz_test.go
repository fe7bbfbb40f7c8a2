package imapext

import (
	"bytes"
	"testing"
)

// FuzzChunks checks that the result does not depend on how the two streams are cut: the oracle sees every packet whole. data is a
// sequence of packets that end in 0xFE, from the backend and the client in turn; the first byte selects the options.
func FuzzChunks(f *testing.F) {
	for _, s := range readScripts(f) {
		options, err := s.options()
		if err != nil {
			f.Fatal(err)
		}
		choice := byte(0)
		for bit, set := range []bool{!options.TLS, options.StartTLS, options.AllowPlaintextLogin, options.Entries == nil, options.Compress, options.Identify != nil} {
			if set {
				choice |= 1 << bit
			}
		}
		data := []byte{choice}
		last := byte('B')
		for _, line := range s.lines {
			if len(line) < 2 || line[1] != ':' || line[0] != 'B' && line[0] != 'C' || len(line) > 1000 {
				continue
			}
			if line[0] != last {
				data = append(data, 0xFE)
				last = line[0]
			}
			if text := unescape(line[2:]); len(text) < 1000 {
				data = append(data, text...)
			}
		}
		f.Add(data, uint64(len(data)))
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		if len(data) == 0 || len(data) > 64<<10 {
			return
		}
		options := Options{
			Entries:             testEntries,
			TLS:                 data[0]&1 == 0,
			StartTLS:            data[0]&2 != 0,
			AllowPlaintextLogin: data[0]&4 != 0,
			Compress:            data[0]&16 != 0,
			CountMessages:       data[0]&64 != 0,
		}
		if data[0]&32 != 0 {
			options.Identify = []IDField{{"x-originating-ip", "192.0.2.1"}}
		}
		if data[0]&8 != 0 {
			options.Entries = nil
		}
		packets := bytes.Split(data[1:], []byte{0xFE})
		oracle, cut := newWire(options, whole), newWire(options, cutRandomly(seed))
		for i, packet := range packets {
			if len(packet) == 0 {
				continue // FromClient without bytes is for other tests
			}
			for _, w := range []*wire{oracle, cut} {
				w.resumeLate = true
				var err error
				if i%2 == 0 {
					err = w.fromBackend(packet)
				} else {
					err = w.fromClient(packet)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if oracle.closed != cut.closed || oracle.waiting != cut.waiting {
				t.Fatalf("packet %d: closed %v, waiting %v; cut: closed %v, waiting %v", i,
					oracle.closed, oracle.waiting, cut.closed, cut.waiting)
			}
			if got, want := cut.filter.messages, oracle.filter.messages; got != want {
				t.Fatalf("packet %d: %+v, whole %+v", i, got, want)
			}
			if got, want := cut.client.Bytes(), oracle.client.Bytes(); !bytes.Equal(got, want) {
				t.Fatalf("packet %d: client got %q, whole %q", i, got, want)
			}
			if got, want := cut.backend.Bytes(), oracle.backend.Bytes(); !bytes.Equal(got, want) {
				t.Fatalf("packet %d: backend got %q, whole %q", i, got, want)
			}
			if oracle.closed {
				return
			}
		}
	})
}
