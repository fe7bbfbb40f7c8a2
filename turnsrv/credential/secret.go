package credential

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a key shared between those who issue credentials and the relay that verifies them. It prints as
// "[redacted]" in every format, log line and encoding; only Bytes gives it away. The zero Secret is empty.
type Secret struct {
	// A pointer, because fmt cannot call the methods below on an unexported field of some other struct: there it
	// prints an address instead of the bytes.
	value *[]byte
}

// NewSecret returns a Secret that holds a copy of b.
func NewSecret(b []byte) Secret {
	value := append([]byte(nil), b...)
	return Secret{value: &value}
}

// Bytes returns the secret itself. The caller must not modify it.
func (s Secret) Bytes() []byte {
	if s.value == nil {
		return nil
	}
	return *s.value
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return len(s.Bytes()) == 0 }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]", for the verb %#v.
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb: without it %x and %d would print the bytes.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]". Encoding and decoding a Secret does not give it back, on purpose.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText sets the secret to a copy of text, byte for byte.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(text)
	return nil
}
