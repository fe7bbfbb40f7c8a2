package session

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestTableAgainstMap adds, looks up and removes entries at random, also while iterating, and compares the table with a map. The
// number of entries crosses the limit between slice and map in both directions.
func TestTableAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var table table[int, int]
	want := make(map[int]*int)
	crossed := 0
	for step := range 20000 {
		many := table.many != nil
		if step/500%2 == 0 {
			if key := random.IntN(4 * maxFew); want[key] == nil {
				want[key] = new(key)
				table.add(key, want[key])
			}
		}
		if step%3 == 0 {
			key := random.IntN(4 * maxFew)
			delete(want, key)
			table.remove(key)
		}
		if step%100 == 0 {
			got := make(map[int]*int)
			for key, value := range table.all() {
				if got[key] = value; random.IntN(2) == 0 {
					delete(want, key)
					table.remove(key)
					delete(got, key)
				}
			}
			if !maps.Equal(got, want) {
				t.Fatalf("step %d: %d entries, want %d", step, len(got), len(want))
			}
		}
		for key := range 4 * maxFew {
			if table.get(key) != want[key] {
				t.Fatalf("step %d: the value of %d is %p, want %p", step, key, table.get(key), want[key])
			}
		}
		if table.len() != len(want) {
			t.Fatalf("step %d: length %d, want %d", step, table.len(), len(want))
		}
		if many != (table.many != nil) {
			crossed++
		}
	}
	if crossed < 10 {
		t.Errorf("changed between slice and map %d times", crossed)
	}
}
