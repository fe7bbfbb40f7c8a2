//go:build !linux

package turn

import "errors"

func cpus() (first, last int, err error) { return 0, 0, errors.ErrUnsupported }

func stayOn(int) (leave func(), err error) { return nil, errors.ErrUnsupported }

func attackFrom(int) (leave func(), err error) { return nil, errors.ErrUnsupported }

func reuseAddr(uintptr) {}
