package acme

import (
	"fmt"
	"io"
	"log/slog"
)

// A Secret is a key of an account or of a name server. Printing it does not show it.
type Secret struct{ text string }

// Format implements fmt.Formatter.
func (Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, "[redacted]") }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }
