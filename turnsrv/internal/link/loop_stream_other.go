//go:build !linux

package link

type streamBuffers struct{}

func (*stream) move() bool { return false }
