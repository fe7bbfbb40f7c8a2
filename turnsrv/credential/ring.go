package credential

import "sync/atomic"

// A Ring has secrets that change while the process runs, in addition to those of the configuration. The methods of a nil Ring are those
// of one without secrets, like the zero value. Safe for concurrent use.
type Ring struct{ secrets atomic.Pointer[ringSecrets] }

// ringSecrets is not modified once it is in a Ring.
type ringSecrets struct {
	accepted []Secret
	issuing  []Identified
}

// Identified is a secret with what it is called where its value must not be disclosed.
type Identified struct {
	ID     string
	Secret Secret
}

// Set replaces the secrets: those that relays accept, and those to issue credentials with, the preferred one first. The caller must not
// modify the slices afterwards.
func (r *Ring) Set(accepted []Secret, issuing []Identified) {
	r.secrets.Store(&ringSecrets{accepted, issuing})
}

// Accepted returns the secrets that relays accept. The caller must not modify them.
func (r *Ring) Accepted() []Secret {
	if secrets := r.load(); secrets != nil {
		return secrets.accepted
	}
	return nil
}

// Issuing returns the secrets to issue credentials with, for a relay that accepts them, the preferred one first. The caller must not
// modify them.
func (r *Ring) Issuing() []Identified {
	if secrets := r.load(); secrets != nil {
		return secrets.issuing
	}
	return nil
}

func (r *Ring) load() *ringSecrets {
	if r == nil {
		return nil
	}
	return r.secrets.Load()
}
