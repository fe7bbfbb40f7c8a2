//go:build !unix

package main

// openFilesLimit reports false: there is no limit that is worth deriving others from.
func openFilesLimit() (limit int, ok bool) { return 0, false }
