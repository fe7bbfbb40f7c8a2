package credential

// Authenticator looks up who may use the server. Verifier is one. Lookup is called for every request that
// is signed, from several goroutines; it must not block.
type Authenticator interface {
	// Lookup returns the keys that username has in realm, and false for a name that is not known.
	Lookup(username, realm string) (Grant, bool)
}
