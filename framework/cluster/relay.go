package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits of what is read from Redis.
const (
	maxRelays       = 1000
	maxAnnouncement = 8 << 10 // bytes
	maxName         = 255     // bytes
	maxPorts        = 64
	maxSecrets      = 16
	maxAnswer       = 1000 // bytes
)

// A Relay is what a relay announces about itself.
type Relay struct {
	// Name identifies the relay in the cluster.
	Name string `json:"name"`
	// Incarnation is different after each start of the process.
	Incarnation string `json:"incarnation"`
	Version     string `json:"version"` // of mailturn

	Server string `json:"server"` // the host that clients are told: a name or an IPv4 address
	// UDP, TCP and TLS are the ports on which it listens, those that clients are told first.
	UDP []uint16 `json:"udp,omitempty"`
	TCP []uint16 `json:"tcp,omitempty"`
	TLS []uint16 `json:"tls,omitempty"`
	// Secrets are the SecretIDs of the secrets that it accepts.
	Secrets []string `json:"secrets"`

	Region string `json:"region,omitempty"`
	Weight int    `json:"weight"` // share of the accounts, relative to that of other relays

	Allocations int `json:"allocations"`
	Capacity    int `json:"capacity,omitempty"` // the limit of Allocations, 0 if there is none
	// BitsPerSecond is what it relays, averaged since the announcement before.
	BitsPerSecond int64 `json:"bits_per_second"`
	// Seen is set by a Directory: when the relay was last announced, on the clock of this machine.
	Seen time.Time `json:"seen,omitzero"`
	// Own is set by a Directory for the relays of this process.
	Own bool `json:"-"`
	// Refuses is why it accepts no new calls: "draining", or what it lacks. Empty if it accepts them.
	Refuses string `json:"refuses,omitempty"`

	// Answer is what became of the last request to the relay that changed nothing, nil if there was none.
	Answer *Answer `json:"answer,omitempty"`

	// Failed are the relays that this one could not reach when it last probed them: the reason by incarnation.
	Failed map[string]string `json:"failed,omitempty"`
	// FailedBy is set by a Directory: for each other relay that could not reach this one, its name and the reason.
	FailedBy []string `json:"failed_by,omitempty"`
}

// Draining is the Refuses of a relay that an operator drains, or that is stopping.
const Draining = "draining"

// Full reports whether the relay has as many allocations as it allows.
func (r Relay) Full() bool { return r.Capacity > 0 && r.Allocations >= r.Capacity }

// Welcomes reports whether new calls should go to the relay.
func (r Relay) Welcomes() bool { return r.Refuses == "" && !r.Full() && r.Weight > 0 && r.Reachable() }

// SecretID identifies a secret of relays without disclosing it: two processes that know the secret agree on its ID.
func SecretID(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("mailturn cluster: ID of a secret"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// parseRelay parses and checks an announcement.
func parseRelay(text string) (r Relay, err error) {
	if len(text) > maxAnnouncement {
		return r, fmt.Errorf("it has %d bytes, and may have %d", len(text), maxAnnouncement)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, err
	}
	return r, r.check()
}

func (r Relay) check() error {
	for name, value := range map[string]string{"name": r.Name, "server": r.Server, "incarnation": r.Incarnation} {
		if value == "" || len(value) > maxName {
			return fmt.Errorf("%s has %d bytes: want 1 to %d", name, len(value), maxName)
		}
	}
	if !hostCharacters(r.Server) {
		return fmt.Errorf("server %q is neither a host name nor an IPv4 address", r.Server)
	}
	if max(len(r.Region), len(r.Version), len(r.Refuses)) > maxName {
		return errors.New("region, version or refuses is too long")
	}
	ports := slices.Concat(r.UDP, r.TCP, r.TLS)
	if len(ports) == 0 || len(ports) > maxPorts || slices.Contains(ports, 0) {
		return errors.New("its ports cannot be used")
	}
	if len(r.Secrets) > maxSecrets {
		return fmt.Errorf("it has %d secrets, and may have %d", len(r.Secrets), maxSecrets)
	}
	if r.Weight < 0 || r.Weight > 1000 {
		return fmt.Errorf("weight is %d: want 0 to 1000", r.Weight)
	}
	if r.Answer != nil && max(len(r.Answer.ID), len(r.Answer.Error)) > maxAnswer {
		return errors.New("answer is too long")
	}
	return r.checkFailed()
}

// hostCharacters reports whether clients, which split their answer at colons, can read the host.
func hostCharacters(host string) bool {
	return !slices.ContainsFunc([]byte(host), func(c byte) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_')
	})
}

// encode returns the announcement, as parseRelay reads it.
func (r Relay) encode() (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	return string(text), err
}
