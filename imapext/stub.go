package imapext

type clientStream struct{}
type backendStream struct{}
type exchange struct{}

// FromClient consumes bytes from the client and returns how many, and what is to be done next. It appends to both
// queues; what it appends to the backend's may alias p.
func (f *Filter) FromClient(p []byte) (n int, event Event) {
	f.toBackend.add(p)
	return len(p), Continue
}

// FromBackend consumes p, bytes from the backend. What it appends to the client's queue may alias p. Its only error
// is that the backend said more than 64 KiB during the client's TLS handshake; the session then has to be closed.
func (f *Filter) FromBackend(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fromBackend(p)
	return nil
}

func (f *Filter) fromBackend(p []byte) { f.toClient.add(p) }
