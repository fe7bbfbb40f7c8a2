//go:build !unix

package patient

const canReadAtOnce = false

// readAtOnce is not called.
func readAtOnce(uintptr, []byte) (int, error) { return 0, ErrNothingYet }

// readable is not called.
func readable(uintptr) bool { return true }
