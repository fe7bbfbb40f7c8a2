package patient

// Rest calls f on a new goroutine as soon as there may be something for Read to return. Until then, no goroutine waits, if the lobby
// can wait for this connection.
func (c *Conn) Rest(l *Lobby, f func()) {
	if !c.patient || !c.enter(l, f) {
		go func() {
			c.Await(0)
			f()
		}()
	}
}

// enter makes l wait for the connection. It returns false if there is nothing to wait for, or l cannot.
func (c *Conn) enter(l *Lobby, f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bounded || c.closed {
		return false
	}
	c.drained, c.rested = false, f
	if err := c.raw.Control(func(fd uintptr) { c.lobby = l.add(int(fd), c) }); err != nil || c.lobby == nil {
		c.rested = nil
		return false
	}
	return true
}

// rouse ends the wait in the lobby, if the connection is there. It is safe for concurrent use.
func (c *Conn) rouse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rested == nil {
		return
	}
	c.raw.Control(func(fd uintptr) { c.lobby.remove(int(fd), c) }) // it is open, because Close comes here first
	go c.rested()
	c.rested, c.lobby = nil, nil
}
