package coturn

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Attributes of extensions that mailturn does not have.
const (
	attrChangeRequest   stun.AttrType = 0x0003 // RFC 5780
	attrResponseOrigin  stun.AttrType = 0x802B // RFC 5780
	attrOtherAddress    stun.AttrType = 0x802C // RFC 5780
	attrThirdParty      stun.AttrType = 0x802E // RFC 7635
	attrMobilityTicket  stun.AttrType = 0x8030 // RFC 8016
	attrAlternateServer stun.AttrType = 0x8023 // RFC 8489
)

// behaviors has the reasons that say what mailturn does, each with a test.
var behaviors = map[string]func(*testing.T){
	"loopback peers are refused by default": func(t *testing.T) {
		c := allocated(t, runRelay(t, func(c *turn.Config) { c.Peers.Allow.V = nil }))
		c.want(403, stun.MethodCreatePermission, peerAddr("127.0.0.2:9"))
	},
	"multicast peers are refused by default": func(t *testing.T) {
		allocated(t, runRelay(t, nil)).want(403, stun.MethodCreatePermission, peerAddr("224.0.0.251:5353"))
	},
	"a response has FINGERPRINT if its request has one": func(t *testing.T) {
		c := dial(t, runRelay(t, nil), "udp")
		plain := c.exchange(c.message(stun.MethodBinding))
		c.builder.Fingerprint()
		if with := c.exchange(c.builder.Bytes()); plain.HasFingerprint || !with.HasFingerprint {
			t.Errorf("FINGERPRINT without: %v, with: %v", plain.HasFingerprint, with.HasFingerprint)
		}
	},
	software: func(t *testing.T) {
		c := allocated(t, runRelay(t, nil))
		c.lacks(c.want(0, stun.MethodRefresh), stun.AttrSoftware)
	},
	"TCP relays (RFC 6062) are never made": func(t *testing.T) {
		dial(t, runRelay(t, nil), "tcp").want(442, stun.MethodAllocate, attr(stun.AttrRequestedTransport, 6, 0, 0, 0))
	},
	"NAT behavior discovery (RFC 5780) is not offered": natDiscovery,
	behavior: natDiscovery,
	"packets that are neither STUN nor ChannelData are always dropped": func(t *testing.T) {
		c := dial(t, runRelay(t, nil), "udp")
		c.silent([]byte("\x16\xfe\xff what is this?"))
		c.silent([]byte("x"))
	},
	"dropped packets are counted, not logged": func(t *testing.T) {
		r := runRelay(t, nil)
		r.log.Reset()
		dial(t, r, "udp").silent([]byte("x"))
		if counted, _ := r.endpoint.Counters(); counted.Dropped[event.DropMalformed] == 0 {
			t.Errorf("not counted: %v", counted.Dropped)
		}
		if logged := r.log.String(); logged != "" {
			t.Errorf("logged %s", logged)
		}
	},
	"unauthenticated requests keep no state": func(t *testing.T) {
		r := runRelay(t, nil)
		c := dial(t, r, "udp")
		for range 20 {
			if got := c.exchange(c.message(stun.MethodAllocate, udpRelay)); code(got) != 401 {
				t.Fatalf("got %d", code(got))
			}
		}
		if counted, _ := r.endpoint.Counters(); counted.AllocationsMade != 0 {
			t.Errorf("%d allocations", counted.AllocationsMade)
		}
	},
	limited: func(t *testing.T) {
		c := dial(t, runRelay(t, func(c *turn.Config) { c.UnauthenticatedRate = 1 }), "udp")
		c.exchange(c.message(stun.MethodBinding))
		c.exchange(c.message(stun.MethodBinding))
		for range 10 {
			c.write(c.message(stun.MethodBinding))
		}
		stream := dial(t, c.relay, "tcp") // whose source address is proven: a later request is answered
		for range 1000 {
			stream.exchange(stream.message(stun.MethodBinding))
			if counted, _ := c.relay.endpoint.Counters(); counted.Dropped[event.DropUnauthenticated] > 0 {
				return
			}
		}
		t.Error("nothing was dropped")
	},
	stateless: func(t *testing.T) {
		// A nonce needs no state: another server with another key refuses it.
		first, second := runRelay(t, nil), runRelay(t, nil)
		c := dial(t, first, "udp")
		c.want(0, stun.MethodAllocate, udpRelay)
		other := dial(t, second, "udp")
		other.nonce, other.realm, other.key = c.nonce, c.realm, c.key
		if got := other.exchange(other.signed(stun.MethodAllocate, udpRelay)); code(got) != 438 {
			t.Errorf("a nonce of another start: got %d, want 438", code(got))
		}
	},
	"error responses have a reason phrase unless it would make the answer to a stranger too large": func(t *testing.T) {
		c := allocated(t, runRelay(t, nil))
		refused := c.want(437, stun.MethodAllocate, udpRelay)
		if phrase := c.value(refused, stun.AttrErrorCode)[4:]; string(phrase) != "Allocation Mismatch" {
			t.Errorf("got the phrase %q", phrase)
		}
		long := runRelay(t, func(c *turn.Config) { c.Realm = strings.Repeat("r", 60) })
		d := dial(t, long, "udp")
		if phrase := d.value(d.exchange(d.message(stun.MethodAllocate, udpRelay)), stun.AttrErrorCode)[4:]; len(phrase) > 0 {
			t.Errorf("a stranger got the phrase %q", phrase)
		}
	},
	classic:   rfc3489,
	mappedToo: rfc3489,
	"channel numbers up to 0x7FFF are accepted": func(t *testing.T) {
		c := allocated(t, runRelay(t, nil))
		for n, number := range []uint16{0x4000, 0x5000, 0x7FFF} {
			c.want(0, stun.MethodChannelBind, func(b *stun.Builder) { b.Uint32(stun.AttrChannelNumber, uint32(number)<<16) },
				func(b *stun.Builder) {
					b.XORAddress(stun.AttrXORPeerAddress, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 9000+uint16(n)))
				})
		}
	},
	noHTTP: http, noHTTP + ": let the web server do it": http,
	anonymous: func(t *testing.T) {
		c := dial(t, runRelay(t, nil), "udp")
		if got := c.exchange(c.message(stun.MethodAllocate, udpRelay)); code(got) != 401 {
			t.Errorf("got %d, want 401", code(got))
		}
	},
	bindings: func(t *testing.T) {
		c := dial(t, runRelay(t, nil), "udp")
		if got := c.exchange(c.message(stun.MethodBinding)); got.Class != stun.ClassSuccess {
			t.Errorf("got class %v", got.Class)
		}
	},
	"ORIGIN chooses the realm, see user_realm, and may change between the requests of a client": func(t *testing.T) {
		c := dial(t, runRelay(t, nil), "udp")
		c.want(0, stun.MethodAllocate, udpRelay, attr(stun.AttrOrigin, []byte("https://a.example")...))
		c.want(0, stun.MethodRefresh, attr(stun.AttrOrigin, []byte("https://b.example")...))
	},
	"mobility (RFC 8016) is not offered": func(t *testing.T) {
		c := dial(t, runRelay(t, nil), "udp")
		c.lacks(c.want(0, stun.MethodAllocate, udpRelay, attr(attrMobilityTicket)), attrMobilityTicket)
	},
	"OAuth (RFC 7635) is not offered":                         thirdParty,
	"it is for OAuth (RFC 7635), which is not offered":        thirdParty,
	"permissions are always checked (RFC 8656 section 9)":     permissions,
	"every call has its own relay sockets":                    ownSockets,
	"mailturn relays UDP only":                                func(t *testing.T) { allocated(t, runRelay(t, nil)) },
	"mailturn always relays":                                  func(t *testing.T) { allocated(t, runRelay(t, nil)) },
	"RESPONSE-ORIGIN is not sent":                             natDiscovery,
	"client certificates are ignored":                         clientCertificate,
	"TLS 1.2 and 1.3 with the ciphers that Go considers safe": versions,
	"metrics contain no user names":                           noUserNames,
	redirection: func(t *testing.T) {
		c := dial(t, runRelay(t, nil), "udp")
		c.lacks(c.want(0, stun.MethodAllocate, udpRelay), attrAlternateServer)
	},
}

// elsewhere has the reasons that do not describe visible behavior, or whose behavior is tested in the package that implements it.
var elsewhere = []string{
	"there is no console", console, commandLine, threads, batches, process, logs, inDatabase, byAddress,
	"mailturn asks for a receive buffer of 4 MiB for each UDP port that it listens on: see net.core.rmem_max", // endpoint/turn
	"it decrypts the password of a database",
	"draining ends when all calls have ended, or after drain_timeout",                                              // turnsrv
	"add the address to listen",                                                                                    // endpoint/turn
	"the PROXY protocol is accepted on the ordinary ports, from the networks in proxy_protocol only",               // endpoint/turn
	"events do not go to Redis; metrics are at /metrics of an endpoint \"http\"",                                   // endpoint/http
	"https:// in listen of the endpoint \"http\" serves metrics over TLS",                                          // endpoint/http
	"raw public keys (RFC 7250) are not offered",                                                                   // Go's TLS does not support them
	"the key must be readable without a password",                                                                  // framework/certs
	"secrets are in the configuration: list the new one first, and the old one until its credentials have expired", // turnsrv/credential
}

// TestReasons checks that what the remarks say about mailturn is true.
func TestReasons(t *testing.T) {
	tested := make(map[string]bool)
	for name, reason := range reasons {
		if behaviors[reason.text] == nil && !slices.Contains(elsewhere, reason.text) {
			t.Errorf("%s: no test of %q", name, reason.text)
		}
		tested[reason.text] = true
	}
	tested[anonymous] = true // of lt-cred-mech too
	for text, test := range behaviors {
		if !tested[text] {
			t.Errorf("no directive has the reason %q", text)
		}
		t.Run(text, test)
	}
}

func natDiscovery(t *testing.T) {
	c := dial(t, runRelay(t, nil), "udp")
	if got := c.exchange(c.message(stun.MethodBinding, attr(attrChangeRequest, 0, 0, 0, 6))); code(got) != 420 {
		t.Errorf("CHANGE-REQUEST: got %d, want 420", code(got))
	}
	plain := c.exchange(c.message(stun.MethodBinding))
	c.lacks(plain, attrResponseOrigin)
	c.lacks(plain, attrOtherAddress)
}

func rfc3489(t *testing.T) {
	c := dial(t, runRelay(t, nil), "udp")
	c.lacks(c.exchange(c.message(stun.MethodBinding)), stun.AttrMappedAddress)
	old := bytes.Clone(c.message(stun.MethodBinding))
	binary.BigEndian.PutUint32(old[4:], 0x01020304)
	c.silent(old)
}

func thirdParty(t *testing.T) {
	c := dial(t, runRelay(t, nil), "udp")
	c.lacks(c.exchange(c.message(stun.MethodAllocate, udpRelay)), attrThirdParty)
}

func http(t *testing.T) {
	c := dial(t, runRelay(t, nil), "tcp")
	c.write([]byte("GET / HTTP/1.1\r\nHost: turn.example.org\r\n\r\n"))
	if answer, err := io.ReadAll(c.conn); len(answer) > 0 {
		t.Errorf("got %q, %v", answer, err)
	}
}

func permissions(t *testing.T) {
	c := allocated(t, runRelay(t, nil))
	send := func(from, text string) {
		t.Helper()
		conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(c.relayed))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	c.want(0, stun.MethodCreatePermission, peerAddr("127.0.0.1:9"))
	send("127.0.0.2", "from a stranger")
	send("127.0.0.1", "from the peer") // which arrives after that
	if data := c.value(c.read(), stun.AttrData); string(data) != "from the peer" {
		t.Errorf("got %q", data)
	}
}

func ownSockets(t *testing.T) {
	r := runRelay(t, nil)
	if first, second := allocated(t, r), allocated(t, r); first.relayed == second.relayed {
		t.Errorf("both have %v", first.relayed)
	}
}

func clientCertificate(t *testing.T) {
	r := runRelay(t, nil)
	asked := false
	conn, err := tls.Dial("tcp", r.address("tls"), &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return new(tls.Certificate), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if asked {
		t.Error("the server asked for a certificate")
	}
}

func versions(t *testing.T) {
	r := runRelay(t, nil)
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", r.address("tls"), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: got %v", tls.VersionName(version), err)
		}
	}
}

func noUserNames(t *testing.T) {
	r := runRelay(t, nil)
	allocated(t, r)
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.endpoint.Collector())
	families, err := registry.Gather()
	if err != nil || len(families) == 0 {
		t.Fatalf("no metrics: %v", err)
	}
	for _, family := range families {
		if strings.Contains(family.String(), "alice") {
			t.Errorf("got %v", family)
		}
	}
}
