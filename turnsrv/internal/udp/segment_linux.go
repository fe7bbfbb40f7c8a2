package udp

import "golang.org/x/sys/unix"

const (
	// maxSegments is the maximum number of datagrams in a batch that the kernel splits, UDP_MAX_SEGMENTS of Linux before 6.9.
	maxSegments = 64

	// maxSegmented is the maximum length of such a batch. With the headers, it has to fit in an IP packet.
	maxSegmented = 65000

	// maxPause is the maximum number of batches that are not tried after one that was refused.
	maxPause = 256
)

// segments records whether the kernel accepts batches of a socket, messages that it splits into datagrams (UDP_SEGMENT, Linux
// 4.18). It may refuse only some of them, such as those with datagrams that exceed the MTU of their route. So that one destination
// does not end batches for all others of the socket, a refusal only pauses them, longer after each further refusal in a row.
type segments struct {
	pause     uint16 // number of batches that will not be tried
	next      uint16 // the next pause
	tested    bool
	withdrawn bool
}

// try reports whether to try a batch on the socket fd.
func (s *segments) try(fd int) bool {
	if !s.tested {
		s.tested = true
		_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		s.withdrawn = err != nil
	}
	if s.withdrawn {
		return false
	}
	if s.pause > 0 {
		s.pause--
		return false
	}
	return true
}

// accepted handles a batch that the kernel accepted.
func (s *segments) accepted() { s.next = 0 }

// refusesBatch reports whether errno may concern the batch rather than the datagrams in it.
func refusesBatch(errno unix.Errno) bool {
	switch errno {
	case unix.EINVAL, unix.EMSGSIZE, // datagrams that exceed the MTU; on their own they are sent in fragments
		unix.ENOBUFS, unix.ENOMEM,
		unix.EIO, unix.EOPNOTSUPP, unix.ENOPROTOOPT:
		return true
	}
	return false
}

// refused handles the refusal of a batch with errno. It reports whether this was the refusal after which no more batches are tried.
func (s *segments) refused(errno unix.Errno) (withdrawn bool) {
	switch errno {
	case unix.EIO, unix.EOPNOTSUPP, unix.ENOPROTOOPT: // the route's device cannot compute checksums, or the option is unknown
		withdrawn = !s.withdrawn
		s.withdrawn = true
		return withdrawn
	}
	s.next = min(2*s.next+1, maxPause)
	s.pause = s.next
	return false
}

// batchable returns how many letters at the beginning of order can be sent as one batch, at least 1: those with the addresses, the
// traffic class and the length of the first one, and then one that is shorter.
func batchable(letters []letter, order []int32) int {
	first := &letters[order[0]]
	if first.length == 0 {
		return 1
	}
	n, total := 1, first.length
	for _, i := range order[1:min(len(order), maxSegments)] {
		l := &letters[i]
		total += l.length
		if l.length == 0 || l.length > first.length || total > maxSegmented || l.class != first.class || l.local != first.local || l.to != first.to {
			break
		}
		n++
		if l.length < first.length {
			break
		}
	}
	return n
}
