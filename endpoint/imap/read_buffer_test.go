package imap

import (
	"slices"
	"testing"
)

func TestReadBuffer(t *testing.T) {
	const wait = 0 // for a read that finds nothing
	const small, large = smallBufferSize, bufferSize
	for _, tt := range []struct {
		name     string
		stranger bool
		reads    []int
		want     []int // the size of the buffer for the first read, and of that for each following read
	}{
		{"commands", false, []int{30, 200, small - 1}, []int{small, small, small, small}},
		{"a lot", false, []int{small, large, small}, []int{small, large, large, large}},
		{"quiet again", false, []int{small, large, small - 1}, []int{small, large, large, small}},
		{"much, with pauses", false, []int{small, wait, large, wait}, []int{small, large, large, large, large}},
		{"a lot before login", true, []int{small, small}, []int{small, small, small}},
		{"pauses", false, []int{wait, wait}, []int{small, small, small}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b readBuffer
			got := []int{len(b.next(0, !tt.stranger))}
			for _, n := range tt.reads {
				if n == wait {
					b.release()
				}
				got = append(got, len(b.next(n, !tt.stranger)))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got buffers of %d bytes, want %d", got, tt.want)
			}
			b.release()
			b.release()
			if b.b != nil {
				t.Error("a buffer is left")
			}
		})
	}
}
