package main

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

// counter counts the messages of a party, whichever connection they take. A message is "m", its number, and spaces. The echo
// of one is "e" and its number.
type counter struct {
	mu         sync.Mutex        // guards the rest
	next       int               // number of the next message
	asked      map[int]time.Time // when messages left whose echoes are to come
	last       time.Time         // of an arrival, or when the first channel opened
	counts     party.Counts      // without the round trip
	roundTrips []time.Duration
}

// One message in every echoes is echoed.
const echoes = 50

// opened says that a channel is open.
func (c *counter) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = make(map[int]time.Time) // what the last channel lost stays lost
	if c.last.IsZero() {
		c.last = time.Now()
	}
}

// message returns the next message.
func (c *counter) message(size int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next%echoes == 0 {
		c.asked[c.next] = time.Now()
	}
	text := "m" + strconv.Itoa(c.next) + " "
	return text + strings.Repeat(" ", max(0, size-len(text)))
}

// sent says that the channel took it.
func (c *counter) sent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	c.counts.Sent++
}

// received takes a message or an echo, and returns the echo if one is due.
func (c *counter) received(text string) (echo string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind, rest := text[:min(1, len(text))], text[min(1, len(text)):]
	number, err := strconv.Atoi(strings.TrimRight(rest, " "))
	if err != nil {
		return ""
	}
	if kind == "e" {
		if asked, found := c.asked[number]; found {
			delete(c.asked, number)
			c.roundTrips = append(c.roundTrips, time.Since(asked))
		}
		return ""
	}
	if c.last.IsZero() {
		c.last = time.Now()
	}
	c.counts.Received++
	c.counts.Bytes += len(text)
	c.counts.LongestGap = max(c.counts.LongestGap, milliseconds(time.Since(c.last)))
	c.last = time.Now()
	if number%echoes == 0 {
		return "e" + strconv.Itoa(number)
	}
	return ""
}

// take returns what was counted since the last time.
func (c *counter) take() party.Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	if !c.last.IsZero() {
		counts.LongestGap = max(counts.LongestGap, milliseconds(time.Since(c.last)))
	}
	if n := len(c.roundTrips); n > 0 {
		slices.Sort(c.roundTrips)
		counts.RoundTrip = milliseconds(c.roundTrips[n/2])
	}
	c.counts, c.roundTrips = party.Counts{}, nil
	return counts
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
