package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of entries.
const (
	// MaxEntries is the number of entries that a cluster keeps.
	MaxEntries = 16384
	maxEntry   = 8 << 10 // bytes
	// maxContent is what of them is left for the content, after its head and what a sealer adds. The longest ban of an account, of bytes
	// that JSON escapes, is shorter.
	maxContent = maxEntry - 128
)

// An Entry is something that every machine of a cluster should know until it ends.
type Entry struct {
	// Name is what the entry is about. Of two entries with one name, the one with the later Stamp is in force.
	Name string `json:"name"`
	// Stamp is when it was made, in microseconds since the epoch, or more: greater than that of the entry that it replaces. Two machines
	// may make entries with the same stamp; then the one that Redis has got first is in force.
	Stamp int64 `json:"-"`
	// Until is when nobody needs the entry any more.
	Until time.Time `json:"-"`
	// Value is empty if the entry withdraws the one before.
	Value string `json:"value"`
}

// NextStamp returns the Stamp for an entry that replaces one with a Stamp, or 0 if there is none.
func NextStamp(now time.Time, before int64) int64 { return max(now.UnixMicro(), before+1) }

// encode returns the field and the value of the hash of entries.
func (e Entry) encode(s *sealer) (field, text string, err error) {
	content, err := json.Marshal(e)
	if err != nil {
		return "", "", err
	}
	if len(content) > maxContent {
		return "", "", fmt.Errorf("%q has %d bytes, and may have %d", e.Name, len(content), maxContent)
	}
	field = s.field(e.Name)
	head := fmt.Sprintf("%d %d ", e.Stamp, e.Until.UnixMilli())
	return field, head + s.seal(string(content), field+" "+head), nil
}

// maxTime is the end of the year 9999, the last one that JSON can have (RFC 3339 section 1), in milliseconds since 1970.
const maxTime = 253_402_300_799_999

// parseEntry parses what encode returns.
func parseEntry(s *sealer, field, text string) (e Entry, err error) {
	if len(text) > maxEntry {
		return e, fmt.Errorf("it has %d bytes, and may have %d", len(text), maxEntry)
	}
	parts := strings.SplitN(text, " ", 3)
	if len(parts) != 3 {
		return e, errors.New("it has no stamp or no end")
	}
	stamp, stampErr := strconv.ParseInt(parts[0], 10, 64)
	until, untilErr := strconv.ParseInt(parts[1], 10, 64)
	if err := cmp.Or(stampErr, untilErr); err != nil {
		return e, err
	}
	if stamp < 0 || stamp > maxTime*1000 || until < 0 || until > maxTime {
		return e, errors.New("its stamp or its end is not a time from 1970 to 9999")
	}
	content, err := s.open(parts[2], field+" "+parts[0]+" "+parts[1]+" ")
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal([]byte(content), &e); err != nil {
		return e, err
	}
	if s.field(e.Name) != field {
		return e, errors.New("it is stored under another name")
	}
	e.Stamp, e.Until = stamp, time.UnixMilli(until).UTC() // further east, the year may be 10000 already
	return e, nil
}
