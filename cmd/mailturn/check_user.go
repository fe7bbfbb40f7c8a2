package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// unitName is the name of the unit in dist/, and unitUser its user.
const (
	unitName = "mailturn.service"
	unitUser = "mailturn"
)

// An account is a user with the groups of its processes.
type account struct {
	name     string
	uid, gid int
	groups   []int
}

// accountOf returns the account of a user or, with an empty name, that of the unit. It is nil if check-config runs as that user, or
// there is no such unit: then check-config can only report what it can read itself.
func accountOf(ctx context.Context, name string) (*account, error) {
	unit := unit{}
	if os.Geteuid() == 0 {
		unit = loadUnit(ctx)
	}
	explicit := name != ""
	if !explicit {
		name = unit.user
	}
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if !explicit {
			return nil, nil // systemd would not start the unit either, and says why
		}
		return nil, err
	}
	a := &account{name: name}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return nil, fmt.Errorf("user %s has no numeric ID", name)
	}
	switch {
	case a.uid == os.Geteuid():
		return nil, nil
	case os.Geteuid() != 0:
		return nil, fmt.Errorf("only root can check what %s may read: use sudo, or omit --user", name)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", name, err)
	}
	primary := u.Gid
	if name == unit.user {
		for _, group := range unit.groups {
			if g, err := user.LookupGroup(group); err == nil {
				ids = append(ids, g.Gid)
			}
		}
		if g, err := user.LookupGroup(unit.group); unit.group != "" && err == nil {
			primary = g.Gid
		}
	}
	a.gid, err = strconv.Atoi(primary)
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil {
			a.groups = append(a.groups, gid)
		}
	}
	return a, err
}

// unit is the unit according to systemd, with the drop-ins of the machine.
type unit struct {
	user, group  string
	groups       []string
	capabilities string // those of AmbientCapabilities=, in lower case
	loaded       bool   // systemd knows the unit
}

// loadUnit asks systemd. If systemd does not know the unit, it uses the user of dist/mailturn.service, if there is one.
func loadUnit(ctx context.Context) (u unit) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,User,Group,SupplementaryGroups,AmbientCapabilities", unitName).Output()
	properties := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		properties[key] = value
	}
	if err != nil || properties["LoadState"] != "loaded" {
		return unit{user: unitUser}
	}
	return unit{
		user: properties["User"], group: properties["Group"], groups: strings.Fields(properties["SupplementaryGroups"]),
		capabilities: properties["AmbientCapabilities"], loaded: true,
	}
}

// findsWrong reads the configuration again as a, and returns as warnings the errors that are not in diags, which root has found.
func (a *account) findsWrong(filename string, s *setup, diags hcl.Diagnostics) (found hcl.Diagnostics) {
	err := a.do(func() {
		_, _, again := read(filename, "")
		found = append(again, a.checkState(s)...)
	})
	if err != nil {
		return hcl.Diagnostics{config.Warnf(hcl.Range{}, "Access to files was not checked", "Whether %s may read them: %v.", a.name, err)}
	}
	found = slices.DeleteFunc(found, func(d *hcl.Diagnostic) bool {
		return slices.ContainsFunc(diags, func(known *hcl.Diagnostic) bool {
			return known.Summary == d.Summary && known.Detail == d.Detail
		})
	})
	for _, d := range found {
		d.Severity = hcl.DiagWarning
		d.Detail = fmt.Sprintf("For the user %s: %s", a.name, d.Detail)
	}
	return found
}
