package session

import "hash/maphash"

// index finds values by their keys. It stores a hash in place of a key, because a key takes about 80 bytes, and the value contains it
// anyway. Not safe for concurrent use.
type index[K comparable, V indexed[K, V]] struct {
	hash   func(K) uint64
	chains map[uint64]V // the first value of each hash
	n      int
}

// indexed is a pointer to a value of an index.
type indexed[K comparable, V any] interface {
	comparable
	// identity returns the key. It does not change while the value is in the index.
	identity() K
	// next returns where the index stores the next value with the same hash.
	next() *V
}

// newIndex returns an empty index. Nobody can choose keys with the same hash, because its seed is random.
func newIndex[K comparable, V indexed[K, V]]() index[K, V] {
	seed := maphash.MakeSeed()
	return index[K, V]{hash: func(key K) uint64 { return maphash.Comparable(seed, key) }, chains: make(map[uint64]V)}
}

// get returns the value of a key, or nil if there is none.
func (x *index[K, V]) get(key K) V {
	var none V
	v := x.chains[x.hash(key)]
	for v != none && v.identity() != key {
		v = *v.next()
	}
	return v
}

// add adds a value with a key that has none.
func (x *index[K, V]) add(v V) {
	hash := x.hash(v.identity())
	*v.next() = x.chains[hash]
	x.chains[hash] = v
	x.n++
}

// remove removes a value.
func (x *index[K, V]) remove(v V) {
	var none V
	hash := x.hash(v.identity())
	first := x.chains[hash]
	at := &first
	for *at != v {
		at = (*at).next()
	}
	*at, *v.next() = *v.next(), none
	if x.n--; first == none {
		delete(x.chains, hash)
	} else {
		x.chains[hash] = first
	}
}

// all yields the values in any order. The loop may remove the current value.
func (x *index[K, V]) all(yield func(V) bool) {
	var none V
	for _, v := range x.chains {
		for v != none {
			following := *v.next()
			if !yield(v) {
				return
			}
			v = following
		}
	}
}

func (x *index[K, V]) len() int { return x.n }
