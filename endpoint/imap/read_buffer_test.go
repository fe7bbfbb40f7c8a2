package imap

import (
	"slices"
	"testing"
)

// TestReadBuffer gives the sizes of reads, and wants those of the buffers for them and for the one that comes next.
func TestReadBuffer(t *testing.T) {
	for _, tt := range []struct {
		name        string
		reads, want []int
	}{
		{"commands", []int{30, 200, quietBufferSize - 1}, []int{quietBufferSize, quietBufferSize, quietBufferSize, quietBufferSize}},
		{"a lot", []int{quietBufferSize, bufferSize, quietRead}, []int{quietBufferSize, bufferSize, bufferSize, bufferSize}},
		{"quiet again", []int{quietBufferSize, bufferSize, quietRead - 1, 10}, []int{quietBufferSize, bufferSize, bufferSize, quietBufferSize, quietBufferSize}},
		{"as much as fits, and no more", []int{quietBufferSize, 0}, []int{quietBufferSize, bufferSize, quietBufferSize}},
		{"interrupted reads", []int{0, 0}, []int{quietBufferSize, quietBufferSize, quietBufferSize}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b readBuffer
			defer b.release()
			got := []int{len(b.next(0))}
			for _, n := range tt.reads {
				got = append(got, len(b.next(n)))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got buffers of %d bytes, want %d", got, tt.want)
			}
		})
	}
}
