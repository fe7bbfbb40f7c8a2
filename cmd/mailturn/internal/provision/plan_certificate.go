package provision

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Files that copy certificates.
const (
	certbotHooks = "/etc/letsencrypt/renewal-hooks/deploy"
	copyScript   = "/etc/mailturn/copy-certificates"
	copyUnit     = "mailturn-certificates"
	systemUnits  = "/etc/systemd/system"
)

// A certificateUse says where mailturn reads a certificate.
type certificateUse struct {
	*Certificate
	from pairPaths
}

// copied reports whether mailturn reads a copy, because only root can read the original key.
func (u certificateUse) copied() bool { return u.Source != fromMailturn }

// uses returns the certificates that mailturn presents, that of its hostname first. The names of copies differ from those that the
// documentation suggests, because setup must overwrite and remove only its own files.
func (p *planner) uses() (all []certificateUse) {
	for i, c := range append([]*Certificate{p.cert}, p.others...) {
		use := certificateUse{c, pairPaths{c.Cert, c.Key}}
		if use.copied() {
			prefix := "/etc/mailturn/setup-"
			if i > 0 {
				prefix += c.Names[0] + "-"
			}
			use.from = pairPaths{prefix + "fullchain.pem", prefix + "privkey.pem"}
		}
		all = append(all, use)
	}
	return all
}

// chooseOthers chooses Dovecot's certificates for other names, which clients expect on its ports.
func (p *planner) chooseOthers() {
	if p.Dovecot == nil || p.cert == nil {
		return
	}
	for i := range p.Certificates {
		c := &p.Certificates[i]
		if c == p.cert || !p.Dovecot.uses(c.Cert) || len(c.Names) == 0 || c.problem(c.Names[0], p.m.Now()) != "" ||
			!slices.ContainsFunc(c.Names, func(name string) bool { return p.cert.leaf.VerifyHostname(name) != nil }) {
			continue
		}
		p.others = append(p.others, c)
		p.decide("mailturn presents "+c.Cert+" too", "Dovecot does, for "+strings.Join(c.Names, ", "))
	}
}

// planCertificate gives mailturn copies of the certificates, and keeps the copies up to date.
func (p *planner) planCertificate() {
	if p.cert == nil {
		return
	}
	copies := slices.DeleteFunc(p.uses(), func(u certificateUse) bool { return !u.copied() })
	if len(copies) == 0 {
		return
	}
	var script strings.Builder
	script.WriteString("#!/bin/sh -e\n# Written by \"mailturn setup\": gives mailturn copies of certificates whose keys only root can read.\n")
	step := Step{Title: "mailturn gets a copy of the certificate"}
	remove := []string{"rm", "-f"}
	hook, directories := true, []string(nil)
	for _, c := range copies {
		fmt.Fprintf(&script, "install -m 0644 '%s' '%s'\ninstall -m 0640 -g mailturn '%s' '%s'\n", c.Cert, c.from.cert, c.Key, c.from.key)
		remove = append(remove, c.from.cert, c.from.key)
		hook = hook && c.Source == fromCertbot
		for dir := path.Dir(c.Cert); !slices.Contains(directories, dir); dir = path.Dir(dir) {
			directories = append(directories, dir)
			if !p.m.isLink(dir) { // acmetool has it lead to another directory after a renewal, which changes the one above
				break
			}
		}
	}
	step.UndoLast = [][]string{remove}
	if hook {
		file := path.Join(certbotHooks, "mailturn")
		step.Files = []File{{Path: file, Text: script.String(), Mode: 0o755, Group: -1}}
		step.Do = []Action{run(file)}
		p.decide("certbot copies the certificate for mailturn after each renewal", "only root can read where certbot keeps it")
	} else {
		step.Files = append([]File{{Path: copyScript, Text: script.String(), Mode: 0o755, Group: -1}}, copyUnits(directories)...)
		step.Do = []Action{run(copyScript), run("systemctl", "daemon-reload"),
			run("systemctl", "enable", "--now", copyUnit+".path").undoneBy("systemctl", "disable", "--now", copyUnit+".path")}
		step.UndoLast = append(step.UndoLast, []string{"systemctl", "daemon-reload"})
		p.decide("A systemd unit copies the certificate for mailturn whenever it changes", "only root can read where it is now")
	}
	p.Steps = append(p.Steps, step)
}

// copyUnits returns the units that run the script when a file in one of the directories changes.
func copyUnits(directories []string) []File {
	var watch strings.Builder
	watch.WriteString("# Written by \"mailturn setup\".\n[Unit]\nDescription=Changes of the certificates that mailturn has copies of\n\n[Path]\n")
	for _, dir := range directories {
		fmt.Fprintf(&watch, "PathChanged=%s\n", dir)
	}
	watch.WriteString("\n[Install]\nWantedBy=multi-user.target\n")
	const service = `# Written by "mailturn setup".
[Unit]
Description=Copies of certificates for mailturn

[Service]
Type=oneshot
# Certificate and key are written one after the other.
ExecStartPre=/bin/sleep 5
ExecStart=` + copyScript + "\n"
	return []File{
		{Path: path.Join(systemUnits, copyUnit+".path"), Text: watch.String(), Mode: 0o644, Group: -1},
		{Path: path.Join(systemUnits, copyUnit+".service"), Text: service, Mode: 0o644, Group: -1},
	}
}
