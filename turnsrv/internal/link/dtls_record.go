package link

import "encoding/binary"

// Lengths of RFC 6347 in bytes: a record's header (section 4.1), and that of a handshake message (section 4.2.2).
const (
	dtlsRecordHeaderLen    = 13
	dtlsHandshakeHeaderLen = 12
)

// Content types of a record, RFC 5246 section 6.2.1.
const (
	DTLSChangeCipherSpec = 20
	dtlsAlert            = 21
	DTLSHandshake        = 22
	dtlsApplicationData  = 23
)

// Handshake messages, RFC 5246 section 7.4 and RFC 6347 section 4.3.2.
const (
	dtlsClientHello        = 1
	DTLSHelloVerifyRequest = 3
)

// isDTLS reports whether a datagram that begins with the byte first is DTLS, and not STUN or ChannelData: RFC 7983
// section 7.
func isDTLS(first byte) bool { return 20 <= first && first <= 63 }

// dtlsRecord is the plain part of one record.
type dtlsRecord struct {
	contentType byte
	Epoch       uint16 // 0 until ChangeCipherSpec: everything in it is plain text
	fragment    []byte
}

// CutRecord returns the first record of a datagram and what follows it. It reports false if b ends before the record.
func CutRecord(b []byte) (r dtlsRecord, rest []byte, ok bool) {
	if len(b) < dtlsRecordHeaderLen {
		return r, nil, false
	}
	end := dtlsRecordHeaderLen + int(binary.BigEndian.Uint16(b[11:]))
	if len(b) < end {
		return r, nil, false
	}
	return dtlsRecord{contentType: b[0], Epoch: binary.BigEndian.Uint16(b[3:]), fragment: b[dtlsRecordHeaderLen:end]}, b[end:], true
}

// HandshakeType returns the type of the handshake message that the record begins with, or 0 if it carries none that could
// be read: 0 is that of HelloRequest, which nobody sends here.
func (r dtlsRecord) HandshakeType() byte {
	if r.contentType != DTLSHandshake || r.Epoch != 0 || len(r.fragment) < dtlsHandshakeHeaderLen {
		return 0
	}
	return r.fragment[0]
}

// isFirstHello reports whether a datagram begins an association, with the first ClientHello of a client, the one without a
// cookie: RFC 6347 section 4.2.1 numbers it 0.
func isFirstHello(b []byte) bool {
	r, _, ok := CutRecord(b)
	if !ok || r.HandshakeType() != dtlsClientHello {
		return false
	}
	sequence, offset := r.fragment[4:6], r.fragment[6:9]
	return [2]byte(sequence) == [2]byte{} && [3]byte(offset) == [3]byte{}
}

// admissible reports whether pion/dtls may see the record, of a client whose address is proven. done says that the handshake is.
//
// Anybody can send a record in a client's name. RFC 6347 section 4.1.2.7 has an invalid one dropped without a word, but
// pion/dtls v3.1.15 ends the session at a ChangeCipherSpec that is malformed or claims an epoch of its own (it decrypts no
// such record), at plain application data and at unknown content. Plain alerts are those of a client that gives up its
// handshake. An encrypted handshake record proves itself, but after the handshake there is no use for one: a client that has
// missed the server's Finished repeats its ClientKeyExchange too, which is plain, and pion/dtls would keep two megabytes of
// fragments of a message that never ends.
func (r dtlsRecord) admissible(done bool) bool {
	switch r.contentType {
	case DTLSChangeCipherSpec:
		return r.Epoch == 0 && len(r.fragment) == 1 && r.fragment[0] == 1
	case DTLSHandshake:
		return r.Epoch == 0 || !done
	case dtlsAlert:
		return r.Epoch > 0 || !done
	case dtlsApplicationData:
		return r.Epoch > 0
	default:
		return false
	}
}

// admissibleRecords moves the records of a datagram that are admissible to its front and returns them. What follows the last
// whole record is dropped. plain is the length of those that are not encrypted.
func admissibleRecords(b []byte, done bool) (admitted []byte, plain int) {
	admitted = b[:0]
	for len(b) > 0 {
		r, rest, whole := CutRecord(b)
		if !whole {
			break
		}
		if r.admissible(done) {
			record := b[:len(b)-len(rest)]
			admitted = append(admitted, record...)
			if r.Epoch == 0 {
				plain += len(record)
			}
		}
		b = rest
	}
	return admitted, plain
}
