package bench

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

// processes are those of a process group.
func processes(group int) ([]int, error) {
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

// cpuTime is the CPU time that the processes have used, threads that have ended included.
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

// resident is the memory of the processes in bytes, with what they share counted once in all.
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
