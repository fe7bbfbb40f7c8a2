package credential

// Authenticator looks up who may use the server, as Verifier does. Lookup is called for every signed request, from several
// goroutines, and must not block.
type Authenticator interface {
	// Lookup returns the keys of username in realm. It reports false if the name is unknown.
	Lookup(username, realm string) (Grant, bool)
}
