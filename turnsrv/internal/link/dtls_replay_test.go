package link

import "testing"

// FuzzReplayWindow compares the window with a list of everything that was received.
func FuzzReplayWindow(f *testing.F) {
	f.Add([]byte{0, 1, 2, 2, 0, 70, 6, 7, 6, 255})
	f.Add([]byte{64, 0, 64, 1, 65, 1, 2})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var w replayWindow
		received := make(map[uint64]bool)
		var highest, base uint64
		for _, step := range steps {
			number := base + uint64(step)
			if step == 255 {
				base += 200
			}
			want := !received[number] && (len(received) == 0 || number+64 > highest)
			if got := w.fresh(number); got != want {
				t.Fatalf("%d after %d: fresh is %v, want %v", number, highest, got, want)
			}
			if want {
				w.add(number)
				received[number] = true
				highest = max(highest, number)
			}
		}
	})
}
