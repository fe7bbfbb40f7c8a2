//go:build !linux

package main

import (
	"os"
	"syscall"
)

// siblingProcess returns nothing: there are no upgrades on this system.
func siblingProcess() *syscall.SysProcAttr { return nil }

// notifyUpgrade does nothing.
func notifyUpgrade(chan<- os.Signal) {}
