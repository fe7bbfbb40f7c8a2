//go:build !unix

package main

// openFilesLimit reports false: there is no useful limit.
func openFilesLimit() (limit int, ok bool) { return 0, false }
