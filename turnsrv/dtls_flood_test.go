package turnsrv

import (
	"bytes"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/link"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestDTLSHelloDrawsLittle requires that the response to a packet from an unproven address is smaller than the packet, and that
// there is no response unless the packet is a first ClientHello.
func TestDTLSHelloDrawsLittle(t *testing.T) {
	server, addr := startDTLS(t, testConfig(t), "127.0.0.1", true)
	hello := turntest.FirstHello(t)
	c := dial(t, "udp", addr)
	c.write(hello)
	answer := c.read()
	r, rest, ok := link.CutRecord(answer)
	if !ok || len(rest) > 0 || r.HandshakeType() != link.DTLSHelloVerifyRequest || len(answer) >= len(hello) {
		t.Errorf("%d bytes drew %x", len(hello), answer)
	}
	change := func(at int, value byte) []byte {
		b := bytes.Clone(hello)
		b[at] = value
		return b
	}
	junk := map[string][]byte{
		"one byte": {22}, "a header": hello[:13], "half of it": hello[:len(hello)/2], "application data": change(0, 23),
		"alert": change(0, 21), "epoch 1": change(4, 1), "ServerHello": change(13, 2), "second ClientHello": change(18, 1),
		"fragment": change(21, 1), "record too long": change(11, 0xFF),
	}
	for name, b := range junk {
		c := dial(t, "udp", addr)
		c.write(b)
		t.Run(name, func(*testing.T) { c.silent() })
	}
	if got := server.Counters().Dropped[event.DropDTLS]; got != uint64(len(junk)) {
		t.Errorf("%d packets dropped, want %d", got, len(junk))
	}
	// An unproven client may send a limited number of bytes, and only ClientHellos.
	c.write(change(0, 23))
	c.silent()
	for range 2 * link.MaxPlain / len(hello) {
		c.write(hello)
	}
	dial(t, "udp", addr).silent() // the server has processed all of it
	if got := server.Counters().Dropped[event.DropDTLS]; got < uint64(len(junk)+1+link.MaxPlain/len(hello)) {
		t.Errorf("%d packets dropped", got)
	}
}
