package pion

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"
)

// message is a line that the engine writes to its standard output: that it serves, or why it cannot, or otherwise a log line in the
// format of slog.JSONHandler.
type message struct {
	Ready  bool   `json:"ready,omitempty"`
	Failed string `json:"failed,omitempty"`
}

// maxLine is the maximum length of a line in bytes. Longer ones are dropped.
const maxLine = 64 << 10

// lineReader reads lines of up to maxLine bytes.
type lineReader struct{ buf *bufio.Reader }

func newLineReader(r io.Reader) lineReader { return lineReader{bufio.NewReaderSize(r, maxLine)} }

// next returns the next line, which is valid until the next call.
func (r lineReader) next() ([]byte, error) {
	for long := false; ; {
		line, err := r.buf.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = true
		case err != nil:
			return nil, err
		case long:
			long = false
		default:
			return line, nil
		}
	}
}

// forward writes a line of the engine's log to logger, if the level is enabled there.
func forward(logger *slog.Logger, line []byte) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	attrs, err := decodeGroup(decoder)
	if err != nil {
		return
	}
	record := slog.Record{Time: time.Now()}
	for _, attr := range attrs {
		switch text := attr.Value.String(); attr.Key {
		case slog.TimeKey:
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
				record.Time = t
			}
		case slog.LevelKey:
			_ = record.Level.UnmarshalText([]byte(text)) // info if it is not a level
		case slog.MessageKey:
			record.Message = text
		default:
			record.AddAttrs(attr)
		}
	}
	if handler := logger.Handler(); handler.Enabled(context.Background(), record.Level) {
		_ = handler.Handle(context.Background(), record)
	}
}

// decodeGroup reads a JSON object, and keeps the order of its keys. Nested objects become groups.
func decodeGroup(decoder *json.Decoder) (attrs []slog.Attr, err error) {
	if err := expect(decoder, '{'); err != nil {
		return nil, err
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, err
		}
		value, err := decodeValue(raw)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, slog.Attr{Key: key.(string), Value: value})
	}
	return attrs, expect(decoder, '}')
}

var errNotObject = errors.New("not a JSON object")

func expect(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	if err == nil && token != want {
		err = errNotObject
	}
	return err
}

func decodeValue(raw json.RawMessage) (slog.Value, error) {
	if strings.HasPrefix(string(raw), "{") {
		group, err := decodeGroup(json.NewDecoder(bytes.NewReader(raw)))
		return slog.GroupValue(group...), err
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return slog.StringValue(text), nil
	}
	var number int64
	if json.Unmarshal(raw, &number) == nil {
		return slog.Int64Value(number), nil
	}
	var value any
	err := json.Unmarshal(raw, &value)
	return slog.AnyValue(value), err
}
