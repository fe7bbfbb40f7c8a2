package session

import (
	"iter"
	"slices"
)

// maxFew is the number of entries above which a table uses a map. Most calls have one or two permissions and channels; an ICE agent
// with many candidates has a hundred.
const maxFew = 8

// table contains pointers by key. It is a slice while it has few entries, because a map with a single entry takes as much memory as
// one with eight: 200 to 300 bytes more. All operations take constant time. The zero value is empty. Not safe for concurrent use.
type table[K comparable, V any] struct {
	few  []tableEntry[K, V]
	many map[K]*V // instead of few, if not nil
}

type tableEntry[K comparable, V any] struct {
	key   K
	value *V
}

// get returns the value of key, or nil if there is none.
func (t *table[K, V]) get(key K) *V {
	if t.many != nil {
		return t.many[key]
	}
	for i := range t.few {
		if t.few[i].key == key {
			return t.few[i].value
		}
	}
	return nil
}

// add adds the value of a key that has none.
func (t *table[K, V]) add(key K, value *V) {
	if t.many == nil {
		if len(t.few) < maxFew {
			t.few = append(t.few, tableEntry[K, V]{key, value})
			return
		}
		t.many = make(map[K]*V, 2*maxFew)
		for _, entry := range t.few {
			t.many[entry.key] = entry.value
		}
		t.few = nil
	}
	t.many[key] = value
}

// remove removes a key, if the table contains it.
func (t *table[K, V]) remove(key K) {
	if t.many != nil {
		if delete(t.many, key); len(t.many) == 0 {
			t.many = nil
		}
		return
	}
	t.few = slices.DeleteFunc(t.few, func(entry tableEntry[K, V]) bool { return entry.key == key })
}

func (t *table[K, V]) len() int { return max(len(t.few), len(t.many)) }

// all yields the entries in any order. The loop may remove the current entry.
func (t *table[K, V]) all() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) {
		for key, value := range t.many {
			if !yield(key, value) {
				return
			}
		}
		for i := len(t.few) - 1; i >= 0; i-- { // backwards, because a removal moves the entries after it
			if !yield(t.few[i].key, t.few[i].value) {
				return
			}
		}
	}
}
