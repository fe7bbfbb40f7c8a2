package acme

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portOwner returns the name of the program that listens on a TCP port, or "" if this process may not know it.
func portOwner(port string) string {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return ""
	}
	sockets := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listening(table, fmt.Sprintf(":%04X", number), sockets)
	}
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, descriptor := range descriptors {
		if target, err := os.Readlink(descriptor); err == nil && sockets[target] {
			process := filepath.Dir(filepath.Dir(descriptor))
			name, _ := os.ReadFile(filepath.Join(process, "comm"))
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
		}
	}
	return ""
}

// listening adds to sockets those of a table of proc_net(5) that listen on a port, in the form of the descriptors' symbolic links.
func listening(table, port string, sockets map[string]bool) {
	file, err := os.Open(table)
	if err != nil {
		return
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// sl, local address, remote address, state (0A: TCP_LISTEN), queues, timer, retransmissions, uid, timeout, inode
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && fields[3] == "0A" && strings.HasSuffix(fields[1], port) {
			sockets["socket:["+fields[9]+"]"] = true
		}
	}
}
