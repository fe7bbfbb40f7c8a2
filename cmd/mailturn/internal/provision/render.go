package provision

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mitchellh/go-wordwrap"
	"github.com/rogpeppe/go-internal/diff"
)

// width is the maximum width of lines, in characters.
const width = 100

// WriteFound writes what Look has found.
func (f *Facts) WriteFound(w io.Writer) error {
	r := &report{}
	r.heading("Found")
	r.item(cmp.Or(f.System, "an unknown system") + ", with " + cmp.Or(joined(f.Addresses), "no address but loopback"))
	for _, n := range f.Names {
		r.item(fmt.Sprintf("the name %s, from %s: %s", n.Host, n.Source, cmp.Or(joined(n.Addresses), "DNS: "+n.Err)))
	}
	f.writeNeighbours(r)
	for i := range f.Certificates {
		c := &f.Certificates[i]
		what := cmp.Or(c.Err, "for "+strings.Join(c.Names, ", "))
		if c.Err == "" {
			what += ", until " + c.NotAfter.UTC().Format(time.DateOnly)
			if c.SelfSigned {
				what += ", self-signed"
			}
		}
		r.item(fmt.Sprintf("a certificate of %s, %s: %s", c.Source, c.Cert, what))
	}
	if f.Firewall != nil {
		r.item("a firewall: " + f.Firewall.Name)
	} else {
		r.item("no firewall on this machine")
	}
	if f.Conntrack != nil {
		r.item(fmt.Sprintf("connections are tracked: %d of at most %d", f.Conntrack.Count, f.Conntrack.Max))
	}
	return r.writeTo(w)
}

// writeNeighbours writes the other servers on the machine.
func (f *Facts) writeNeighbours(r *report) {
	if d := f.Dovecot; d != nil {
		var where []string
		for _, s := range f.Sockets {
			if s.Network == "tcp" && s.isDovecots() && slices.Contains(imapPorts, s.Addr.Port()) {
				where = append(where, s.Addr.String())
			}
		}
		text := "Dovecot " + d.Version
		switch {
		case d.Err != "":
			text += ", whose configuration has an error"
		case len(where) == 0:
			text += ", which does not listen on port 143 or 993"
		default:
			text += ", with IMAP at " + joined(where)
		}
		r.item(text)
	}
	if p := f.Postfix; p != nil {
		r.item("Postfix " + p.Version + ", which is left unchanged")
	}
	if f.Chatmail != nil {
		r.item("a chatmail relay, " + cmp.Or(f.Chatmail.Domain, "without mail_domain"))
	}
	for _, s := range f.Sockets {
		if name := s.turnServer(); name != "" && s.Network == "udp" && s.Addr.Port() == turnPort {
			r.item("a TURN server at " + s.Addr.String() + ": " + s.holder())
		}
	}
}

// WritePlan writes the plan: decisions, steps, changes of files, and what is left to do.
func (p *Plan) WritePlan(w io.Writer) error {
	r := &report{}
	if len(p.Decisions) > 0 {
		r.heading("Proposed")
	}
	for _, d := range p.Decisions {
		r.item(d.What + "\nbecause " + d.Why)
	}
	if len(p.Problems) > 0 {
		return r.writeTo(w)
	}
	r.heading("Steps")
	for i, step := range p.Steps {
		r.numbered(i+1, step.Title)
		for _, f := range step.Files {
			r.action("write " + f.Path)
		}
		for _, action := range step.Do {
			r.action(action.Text)
		}
	}
	r.heading("Changes")
	for _, change := range p.changes() {
		text, exists := p.seen[change.Path]
		old := "/dev/null"
		if exists {
			old = change.Path
		}
		r.Write(diff.Diff(old, []byte(text), change.Path, []byte(change.Text)))
	}
	if len(p.Notes) > 0 {
		r.heading("Left for you to do")
	}
	for _, note := range p.Notes {
		r.item(note)
	}
	return r.writeTo(w)
}

// changes returns each file once, with its final contents.
func (p *Plan) changes() (files []File) {
	for _, step := range p.Steps {
		for _, f := range step.Files {
			if i := slices.IndexFunc(files, func(other File) bool { return other.Path == f.Path }); i >= 0 {
				files[i] = f
			} else {
				files = append(files, f)
			}
		}
	}
	return files
}

// WriteProblems writes why there is no plan.
func (p *Plan) WriteProblems(w io.Writer) error {
	r := &report{}
	for _, problem := range p.Problems {
		fmt.Fprintf(r, "mailturn: %s\n  hint: %s\n", problem.Text, problem.Hint)
	}
	return r.writeTo(w)
}

// A report is a text with headings and items.
type report struct{ strings.Builder }

func (r *report) heading(text string) {
	if r.Len() > 0 {
		r.WriteByte('\n')
	}
	r.WriteString(text + "\n")
}

// item writes a paragraph, whose second and later lines are indented further.
func (r *report) item(text string) {
	lines := strings.Split(wordwrap.WrapString(text, width-4), "\n")
	r.WriteString("  " + strings.Join(lines, "\n    ") + "\n")
}

func (r *report) numbered(n int, text string) { fmt.Fprintf(r, "  %d. %s\n", n, text) }
func (r *report) action(text string)          { r.WriteString("       " + text + "\n") }

func (r *report) writeTo(w io.Writer) error {
	_, err := io.WriteString(w, r.String())
	return err
}
