package link

import "encoding/binary"

// Header lengths in bytes: of a record, RFC 6347 section 4.1, and of a handshake message, section 4.2.2.
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

// isDTLS reports whether a datagram that begins with the byte first is DTLS rather than STUN or ChannelData, RFC 7983 section
// 7.
func isDTLS(first byte) bool { return 20 <= first && first <= 63 }

// dtlsRecord is the unencrypted part of a record.
type dtlsRecord struct {
	contentType byte
	Epoch       uint16 // 0 until ChangeCipherSpec: the whole record is plain text
	fragment    []byte
}

// CutRecord returns the first record of a datagram and the bytes that follow it. It reports false if b ends before the record
// does.
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

// HandshakeType returns the type of the handshake message at the start of the record, or 0 if there is none or it is encrypted.
// 0 is the type of HelloRequest, which no client sends.
func (r dtlsRecord) HandshakeType() byte {
	if r.contentType != DTLSHandshake || r.Epoch != 0 || len(r.fragment) < dtlsHandshakeHeaderLen {
		return 0
	}
	return r.fragment[0]
}

// isFirstHello reports whether a datagram begins an association with a ClientHello without a cookie. RFC 6347 section 4.2.1
// gives that message the number 0.
func isFirstHello(b []byte) bool {
	r, _, ok := CutRecord(b)
	if !ok || r.HandshakeType() != dtlsClientHello {
		return false
	}
	sequence, offset := r.fragment[4:6], r.fragment[6:9]
	return [2]byte(sequence) == [2]byte{} && [3]byte(offset) == [3]byte{}
}

// admissible reports whether the record, from a client whose address is proven, may be passed to pion/dtls. done is true after
// the handshake.
//
// Anybody can spoof a record of a client. RFC 6347 section 4.1.2.7 requires invalid records to be discarded silently, but
// pion/dtls v3.1.15 ends the session at a ChangeCipherSpec that is malformed or has an epoch of its own (it does not decrypt
// such a record), at plain application data and at unknown content types. A plain alert comes from a client that abandons its
// handshake. An encrypted handshake record is authenticated, but is useless after the handshake: a client that missed the
// server's Finished also repeats its ClientKeyExchange, which is plain. pion/dtls would keep two megabytes of fragments of an
// incomplete message.
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

// admissibleRecords moves the admissible records of a datagram to its start and returns them. Anything after the last whole
// record is dropped. plain is the total length of the unencrypted records.
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
