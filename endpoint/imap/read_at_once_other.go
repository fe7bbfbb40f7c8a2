//go:build !unix

package imap

const canReadAtOnce = false

// readAtOnce is not called.
func readAtOnce(uintptr, []byte) (int, error) { return 0, errNothingYet }

// readable is not called.
func readable(uintptr) bool { return true }
