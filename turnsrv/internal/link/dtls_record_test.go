package link

import (
	"bytes"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestDTLSRecordsAdmitted lists the records that pion/dtls may receive from a client whose address is proven.
func TestDTLSRecordsAdmitted(t *testing.T) {
	tests := []struct {
		name          string
		contentType   byte
		epoch         uint16
		fragment      string
		before, after bool // the end of the handshake
	}{
		{"ChangeCipherSpec", DTLSChangeCipherSpec, 0, "\x01", true, true},
		{"ChangeCipherSpec with another body", DTLSChangeCipherSpec, 0, "\x02", false, false},
		{"ChangeCipherSpec without a body", DTLSChangeCipherSpec, 0, "", false, false},
		{"ChangeCipherSpec of two bytes", DTLSChangeCipherSpec, 0, "\x01\x01", false, false},
		{"encrypted ChangeCipherSpec", DTLSChangeCipherSpec, 1, "\x01", false, false},
		{"plain alert", dtlsAlert, 0, "\x02\x28", true, false},
		{"encrypted alert", dtlsAlert, 1, "sealed", true, true},
		{"plain handshake", DTLSHandshake, 0, "message", true, true},
		{"encrypted handshake", DTLSHandshake, 1, "sealed", true, false},
		{"plain application data", dtlsApplicationData, 0, "x", false, false},
		{"application data", dtlsApplicationData, 1, "sealed", true, true},
		{"heartbeat", 24, 1, "sealed", false, false},
		{"connection ID", 25, 1, "sealed", false, false},
	}
	for _, tt := range tests {
		r := dtlsRecord{contentType: tt.contentType, Epoch: tt.epoch, fragment: []byte(tt.fragment)}
		if before, after := r.admissible(false), r.admissible(true); before != tt.before || after != tt.after {
			t.Errorf("%s: admitted before the end of the handshake %v, after it %v; want %v, %v", tt.name, before, after,
				tt.before, tt.after)
		}
	}
}

func FuzzDTLSRecords(f *testing.F) {
	f.Add(turntest.FirstHello(f))
	f.Add([]byte{22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0})
	f.Add([]byte{23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 2, 1, 2, 20, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1})
	f.Add([]byte{20, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 2, 22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1, 21, 0xFE})
	f.Fuzz(func(t *testing.T, b []byte) {
		if isFirstHello(b) && (len(b) < dtlsRecordHeaderLen+dtlsHandshakeHeaderLen || b[0] != DTLSHandshake) {
			t.Errorf("%x is a first ClientHello", b)
		}
		for _, done := range []bool{false, true} {
			var want []byte
			wantPlain := 0
			for rest := b; ; {
				r, after, whole := CutRecord(rest)
				if !whole {
					break
				}
				if len(rest)-len(after) != dtlsRecordHeaderLen+len(r.fragment) {
					t.Errorf("a record of %d bytes holds %d", len(rest)-len(after), len(r.fragment))
				}
				if r.admissible(done) {
					want = append(want, rest[:len(rest)-len(after)]...)
					if r.Epoch == 0 {
						wantPlain += len(rest) - len(after)
					}
				}
				rest = after
			}
			got, plain := admissibleRecords(bytes.Clone(b), done)
			if !bytes.Equal(got, want) || plain != wantPlain {
				t.Errorf("of %x, %x with %d plain bytes is left, want %x with %d", b, got, plain, want, wantPlain)
			}
		}
	})
}
