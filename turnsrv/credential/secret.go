package credential

import (
	"bytes"
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a key shared between issuers of credentials and the relay that verifies them. It is printed as "[redacted]" in
// every format, log line and encoding. Only Bytes returns its value. The zero Secret is empty.
type Secret struct {
	// A pointer, because fmt cannot call the methods below on an unexported field of another struct. It prints the pointer there
	// instead of the bytes.
	value *[]byte
}

// NewSecret returns a Secret that holds a copy of b.
func NewSecret(b []byte) Secret {
	value := bytes.Clone(b)
	return Secret{value: &value}
}

// Bytes returns the value of the secret. The caller must not modify it.
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

// Format writes "[redacted]" for every verb. Without it, %x and %d would print the bytes.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]". Therefore an encoded Secret cannot be decoded.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText sets the secret to a copy of text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(text)
	return nil
}
