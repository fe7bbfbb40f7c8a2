package imap

import "fmt"

func (s *session) quiet() bool {
	if q, ok := any(s.filter).(interface{ Quiet() bool }); ok {
		return q.Quiet()
	}
	return true
}

func (s *session) filterBye(text string) {
	if q, ok := any(s.filter).(interface{ Bye(string) }); ok {
		q.Bye(text)
		return
	}
	fmt.Fprintf(s.client, "* BYE %s\r\n", text)
}
