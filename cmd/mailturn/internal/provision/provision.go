// Package provision implements "mailturn setup": after a fresh installation of mailturn on a mail server, it makes the changes that
// calls require, and undoes them.
//
// Look examines the machine, Facts.Plan decides what to do, and a plan can be shown, applied and undone. Only Apply and Undo change
// the machine. They record each change in a journal beforehand, so that it can be undone whatever interrupts them.
package provision

import (
	"io/fs"
	"net/netip"
)

// Options are the choices of the operator.
type Options struct {
	Hostname  string       // by which clients reach the server; empty to determine it
	RelayIP   []netip.Addr // public addresses of the relay; empty to determine them
	RelayBind []netip.Addr // the machine's own addresses, behind a NAT
	Cert, Key string       // files; empty to use an existing certificate or one from an authority
	// Email, AgreeTerms, Directory and CAFile are for a certificate authority. Directory is empty for the default one.
	Email             string
	AgreeTerms        bool
	Directory, CAFile string
	Upstream          string // the IMAP server, if it is not the Dovecot of this machine: SCHEME://HOST:PORT
	Overwrite         bool   // replace an existing configuration of mailturn
}

// A Plan is what setup will do. It can be applied if there are no problems.
type Plan struct {
	Hostname  string
	Decisions []Decision
	Steps     []Step
	Notes     []string // what is left to the operator
	Problems  []Problem
	// NeedsAuthority is true if a problem is solved once the operator agrees to the terms of a certificate authority.
	NeedsAuthority bool
	Authority      string // its name, with the URL of its terms if known
	Ports          Ports

	// Greets are the addresses at which the mail server answers before setup, and must answer afterwards, however setup ends.
	Greets []Greeting
	// Repair is a command that may help if it does not answer after an undo; empty if there is none.
	Repair []string

	seen map[string]string // contents of the files to change, by path, without files that do not exist
}

// Ports are the ports of the relay.
type Ports struct {
	TURN, TLS uint16
	Relayed   string // MIN-MAX
}

// A Greeting is an address at which an IMAP server answers.
type Greeting struct {
	Address string
	TLS     bool
}

// A Decision is a choice with its reason.
type Decision struct{ What, Why string }

// A Problem is a reason why setup cannot continue, and what to do about it.
type Problem struct{ Text, Hint string }

// A Step is applied as a whole or undone.
type Step struct {
	Title string
	Files []File   // written first
	Do    []Action // then
	// UndoLast are commands that run after the actions of the step have been undone and its files restored.
	UndoLast [][]string
}

// A File is created or replaced.
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
	cert   *Certificate   // nil if an authority will issue it
	others []*Certificate // Dovecot's certificates for other names
}

func (p *planner) decide(what, why string) { p.Decisions = append(p.Decisions, Decision{what, why}) }
func (p *planner) note(text string)        { p.Notes = append(p.Notes, text) }
func (p *planner) problem(text, hint string) {
	p.Problems = append(p.Problems, Problem{text, hint})
}
