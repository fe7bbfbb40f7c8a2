package loop

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestClasses checks when the kernel is asked for the traffic class: at first, now and then on a socket without any, and as long as
// there are some.
func TestClasses(t *testing.T) {
	s, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var c classes
	now := classPeriod
	want := func(when string, told bool) {
		t.Helper()
		value, err := unix.GetsockoptInt(s.FD(), unix.IPPROTO_IP, unix.IP_RECVTOS)
		if err != nil || (value == 1) != told {
			t.Errorf("%s: the kernel tells the class %d, %v; want %v", when, value, err, told)
		}
	}
	c.begin(s, classPatience)
	want("at first", true)
	c.note(s, 0, classPatience-1, now)
	want("after a few datagrams", true)
	c.note(s, 0xb8, 1, now)
	c.note(s, 0, classPatience-1, now)
	want("after one with a class", true)
	c.note(s, 0, 1, now)
	want("after many without", false)
	now += classPeriod - 1
	c.note(s, 0, 1000, now)
	want("soon after that", false)
	now++
	c.note(s, 0, 1, now)
	want("later", true)
	c.note(s, 0, classSample, now)
	want("after a sample without", false)
	now += classPeriod
	c.note(s, 0, 1, now)
	c.note(s, 1, 1, now)
	c.note(s, 0, classPatience-1, now)
	want("after a sample with a class", true)
}
