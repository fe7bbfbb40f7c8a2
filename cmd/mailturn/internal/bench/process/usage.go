// Package process runs servers that are measured, and tells what they use.
package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what the processes of a group have used.
type Usage struct {
	CPU      time.Duration // of threads that have ended too
	Switches int           // context switches of the threads that there are
}

// During returns what the processes of a group use while f runs.
func During(group int, f func() error) (Usage, error) {
	pids, err := members(group)
	if err != nil {
		return Usage{}, err
	}
	before := Usage{cpuTime(pids), switches(pids)}
	if err := f(); err != nil {
		return Usage{}, err
	}
	return Usage{cpuTime(pids) - before.CPU, switches(pids) - before.Switches}, nil
}

// Memory returns what the processes of a group have resident, in bytes. What they share is counted once in all.
func Memory(group int) (int, error) {
	pids, err := members(group)
	if err != nil {
		return 0, err
	}
	return resident(pids)
}

// members returns the processes of a group.
func members(group int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid pgrp ..., where comm may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(group) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// cpuTime returns the CPU time that the processes have used, threads that have ended included.
func cpuTime(pids []int) (total time.Duration) {
	for _, pid := range pids {
		var ts unix.Timespec
		// The clock of another process, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of its thread group.
		if unix.ClockGettime(int32(^pid<<3|2), &ts) == nil {
			total += time.Duration(ts.Nano())
		}
	}
	return total
}

// switches returns how often the threads of the processes have been switched away from, by waiting or by force.
func switches(pids []int) (total int) {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/status", pid))
		for _, file := range threads {
			text, _ := os.ReadFile(file) // nothing if it has ended
			for line := range strings.Lines(string(text)) {
				if _, count, ok := strings.Cut(line, "voluntary_ctxt_switches:"); ok {
					n, _ := strconv.Atoi(strings.TrimSpace(count))
					total += n
				}
			}
		}
	}
	return total
}

// resident returns the memory of the processes in bytes, with what they share counted once in all.
func resident(pids []int) (total int, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); fields[0] == "Pss:" {
				kilobytes, err := strconv.Atoi(fields[1])
				if err != nil {
					return 0, err
				}
				total += kilobytes << 10
			}
		}
	}
	return total, nil
}
