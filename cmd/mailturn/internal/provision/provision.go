// Package provision is what "mailturn setup" does. It takes a mail server from a fresh installation of mailturn to calls that connect, and back.
//
// Look finds out what there is, Facts.Plan decides what to do about it, and a plan can be shown, applied and taken back. Only Apply
// and Undo change the machine. What they change is in a journal first, so that whatever interrupts them, the way back is known.
package provision

import (
	"io/fs"
	"net/netip"
)

// Options are what the operator has said.
type Options struct {
	Hostname  string       // by which clients reach the server; empty to find it out
	RelayIP   []netip.Addr // that the internet sees; none to find them out
	RelayBind []netip.Addr // behind a NAT, the machine's own
	Cert, Key string       // files; empty for one that is found, or from an authority
	// Email, AgreeTerms, Directory and CAFile are for a certificate authority. Directory is empty for the default one.
	Email             string
	AgreeTerms        bool
	Directory, CAFile string
	Upstream          string // the IMAP server, if it is not the Dovecot of this machine: SCHEME://HOST:PORT
	Overwrite         bool   // an existing configuration of mailturn
}

// A Plan is what setup will do. It is valid if there are no problems.
type Plan struct {
	Hostname  string
	Decisions []Decision
	Steps     []Step
	Notes     []string // what is left to the operator
	Problems  []Problem
	// NeedsAuthority says that a problem is gone once the operator has agreed to the terms of a certificate authority.
	NeedsAuthority bool
	Authority      string // that one, with the address of its terms if they are known
	Ports          Ports

	// Greets are where the mail server answers before, and has to answer afterwards, however setup ends.
	Greets []Greeting
	// Repair is what may help if it does not answer after the way back; empty if nothing would.
	Repair []string

	seen map[string]string // what the files hold that change, by path, without those that do not exist
}

// Ports are those of the relay.
type Ports struct {
	TURN, TLS uint16
	Relayed   string // MIN-MAX
}

// A Greeting is an address at which an IMAP server answers.
type Greeting struct {
	Address string
	TLS     bool
}

// A Decision is one with its reason.
type Decision struct{ What, Why string }

// A Problem is why setup cannot go on, with what to do.
type Problem struct{ Text, Hint string }

// A Step is applied as a whole or taken back.
type Step struct {
	Title string
	Files []File   // written first
	Do    []Action // then
	// UndoLast are commands of the way back, after the actions are taken back and the files are as they were.
	UndoLast [][]string
}

// A File is made, or replaced.
type File struct {
	Path  string
	Text  string
	Mode  fs.FileMode
	Group int // -1 for root's
}

// A planner collects what Facts.Plan decides.
type planner struct {
	*Facts
	Plan
	m       *Machine
	options Options

	relayIP, relayBind []netip.Addr

	name   Name
	cert   *Certificate   // nil for one from an authority
	others []*Certificate // further ones of Dovecot, for other names
}

func (p *planner) decide(what, why string) { p.Decisions = append(p.Decisions, Decision{what, why}) }
func (p *planner) note(text string)        { p.Notes = append(p.Notes, text) }
func (p *planner) problem(text, hint string) {
	p.Problems = append(p.Problems, Problem{text, hint})
}
