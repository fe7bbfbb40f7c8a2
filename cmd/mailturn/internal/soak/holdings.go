package soak

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// holdings are the resources of the process.
type holdings struct {
	goroutines, descriptors int
	heap                    uint64 // bytes in use after a collection
	resident                uint64 // bytes
}

// String returns the text for a line of the report.
func (h holdings) String() string {
	return fmt.Sprintf("%5d goroutines, %5d descriptors, heap %6d KiB, resident %6d KiB", h.goroutines, h.descriptors, h.heap>>10, h.resident>>10)
}

// take collects garbage and counts.
func take() (h holdings) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.heap, h.goroutines = m.HeapAlloc, runtime.NumGoroutine()
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.descriptors = len(entries) - 1 // without that of the directory
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.Atoi(strings.Fields(string(statm))[1])
		h.resident = uint64(pages * os.Getpagesize())
	}
	return h
}

// settled counts the resources once a started server has all of its goroutines, which start one another.
func settled() holdings {
	for before := take(); ; {
		time.Sleep(500 * time.Millisecond)
		h := take()
		if h.goroutines == before.goroutines && h.descriptors == before.descriptors {
			return h
		}
		before = h
	}
}

// readers is the number of the relay's readers, each with a goroutine and a descriptor. They start with the first allocation and
// remain.
func readers() int { return runtime.GOMAXPROCS(0) }

// udpDrops returns how many datagrams the system has not delivered so far, for example because a socket's buffer was full.
func udpDrops() (int, error) {
	text, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		return 0, err
	}
	// Udp: InDatagrams NoPorts InErrors ... and then the same line with numbers.
	var names [][]byte
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if string(name) == "InErrors" && i < len(fields) {
				return strconv.Atoi(string(fields[i]))
			}
		}
	}
	return 0, fmt.Errorf("/proc/net/snmp has no Udp InErrors")
}
