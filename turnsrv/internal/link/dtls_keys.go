package link

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// dtlsEpoch is the epoch of all records after a handshake, RFC 6347 section 4.1. There is no renegotiation.
const dtlsEpoch = 1

// dtlsKeys are the result of a handshake.
type dtlsKeys struct {
	suite       dtls.CipherSuiteID
	write, read *dtlsProtection
	next        uint64 // sequence number of the next record to send
	replay      replayWindow
}

// handshakeState is the part of a dtls.State that keys depend on, as its MarshalBinary writes it.
type handshakeState struct {
	HandshakeComplete                     bool
	LocalEpoch, RemoteEpoch               uint16
	LocalRandom, RemoteRandom             [32]byte
	CipherSuiteID                         uint16
	MasterSecret                          []byte
	SequenceNumber                        uint64 // of the next record
	RemoteSequenceNumber                  uint64 // one more than the highest that was received
	LocalConnectionID, RemoteConnectionID []byte
}

var errDTLSState = errors.New("unexpected state of a DTLS handshake")

// keysOf returns the keys of a server whose handshake is complete. conn must send nothing afterwards.
func keysOf(conn *dtls.Conn) (*dtlsKeys, error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errDTLSState
	}
	encoded, err := state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var s handshakeState
	if err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&s); err != nil {
		return nil, fmt.Errorf("state of a DTLS handshake: %w", err)
	}
	suite := dtlsSuiteOf(dtls.CipherSuiteID(s.CipherSuiteID))
	if suite == nil || !s.HandshakeComplete || s.LocalEpoch != dtlsEpoch || s.RemoteEpoch != dtlsEpoch || len(s.MasterSecret) == 0 ||
		len(s.LocalConnectionID)+len(s.RemoteConnectionID) > 0 {
		return nil, errDTLSState
	}
	keys, err := prf.GenerateEncryptionKeys(s.MasterSecret, s.RemoteRandom[:], s.LocalRandom[:], 0, suite.keyLen, suite.ivLen, suite.hash)
	if err != nil {
		return nil, err
	}
	k := &dtlsKeys{suite: suite.id, next: s.SequenceNumber, replay: replayWindow{next: s.RemoteSequenceNumber, seen: ^uint64(0)}}
	if k.write, err = suite.protection(keys.ServerWriteKey, keys.ServerWriteIV); err != nil {
		return nil, err
	}
	k.read, err = suite.protection(keys.ClientWriteKey, keys.ClientWriteIV)
	return k, err
}
