package credential

import (
	"strconv"
	"strings"
)

// MaxZeros is the largest number of zeros that SetZeros takes.
const MaxZeros = 63

// serial is a user name that is a number: the second of its expiry since the Unix epoch, in the lower 40 bits, and how many zeros
// precede it, in the bits above. Delta Chat and relays read the number with zeros as the one without, but as user names they differ.
type serial int64

const secondBits = 40

func serialOf(zeros int, second int64) serial { return serial(int64(zeros)<<secondBits | second) }

// parseSerial parses a user name, and reports false if Accounts does not issue it.
func parseSerial(username string) (serial, bool) {
	digits := strings.TrimLeft(username, "0")
	zeros := len(username) - len(digits)
	second, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || second <= 0 || second > lastSecond || zeros > MaxZeros || digits[0] == '+' {
		return 0, false
	}
	return serialOf(zeros, second), true
}

func (s serial) zeros() int { return int(s >> secondBits) }

func (s serial) second() int64 { return int64(s) & (1<<secondBits - 1) }

// String returns the user name.
func (s serial) String() string {
	return strings.Repeat("0", s.zeros()) + strconv.FormatInt(s.second(), 10)
}
