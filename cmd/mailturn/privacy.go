package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/holders"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/framework/privacy"
)

// decodePrivacy checks the privacy block.
func (s *setup) decodePrivacy(c config.Privacy) (diags hcl.Diagnostics) {
	mode := func(v config.Value[string]) privacy.Mode {
		mode, err := privacy.ParseMode(v.V)
		if err != nil {
			diags = append(diags, config.Errorf(v.Range, "Unknown mode", "%v.", err))
		}
		return mode
	}
	s.privacy = privacy.Settings{Addresses: mode(c.Addresses), Accounts: mode(c.Accounts)}
	if s.privacy.Accounts == privacy.Hash && s.control.Record.V > 0 {
		diags = append(diags, config.WithHint(config.Errorf(c.Accounts.Range, "Record would not name accounts",
			"record in the control block is for finding out which account held a relayed address, and accounts = \"hash\" hides it."),
			"remove one of them, or use accounts = \"shorten\""))
	}
	return diags
}

// checkGuesses reports relays that log wrong passwords for fail2ban although addresses are masked.
func (s *setup) checkGuesses(c config.Privacy) (diags hcl.Diagnostics) {
	if s.privacy.Addresses == privacy.None {
		return nil
	}
	for _, relay := range s.relays {
		if relay.LogGuesses {
			diags = append(diags, config.WithHint(config.Errorf(c.Addresses.Range, "fail2ban needs addresses",
				"log_guesses of endpoint turn %q writes the address of each client that guesses, and addresses = %q hides it.", relay.Name, s.privacy.Addresses),
				"remove one of them; max_guesses limits wrong passwords in any case"))
		}
	}
	return diags
}

// masked masks what a holding says about a user, before it is stored or shown. It is safe for concurrent use.
func (r *service) masked(h holders.Holding) holders.Holding {
	h.Account, h.Username, h.Client = r.privacy.Account(h.Account), r.privacy.Account(h.Username), r.privacy.Text(h.Client)
	return h
}

// unmasked returns the account that a request names, which may be the hash or the short form that sessions are shown with. It is an
// error if that stands for none that has a session, a credential or a ban on this machine, or for several.
func (o *operators) unmasked(ctx context.Context, account string) (string, error) {
	mask := o.service.privacy
	if !mask.IsMasked(account) {
		return account, nil
	}
	known, err := o.knownAccounts(ctx)
	if err != nil || known[strings.ToLower(account)] {
		return account, err
	}
	var matches []string
	for name := range known {
		if strings.EqualFold(mask.Account(name), account) {
			matches = append(matches, name)
		}
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return "", control.Errorf(http.StatusBadRequest, "%q stands for no account with a session, a credential or a ban on this machine "+
			"(hashes change at 00:00 UTC and at each start): give the name of the account, or a network", account)
	}
	return "", control.Errorf(http.StatusBadRequest, "%q stands for %d accounts: give the name of one, or a network", account, len(matches))
}

// knownAccounts returns the accounts that have a session, a credential or a ban on this machine, in lower case.
func (o *operators) knownAccounts(ctx context.Context) (known map[string]bool, err error) {
	known = make(map[string]bool)
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	relays, _ := o.relays() // a machine without any can ban, too
	for _, relay := range relays {
		sessions, err := relay.Sessions(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range sessions {
			known[strings.ToLower(a.Subject.Name)] = true
		}
	}
	for _, issued := range o.service.accounts.All(time.Now()) {
		known[strings.ToLower(issued.Account)] = true
	}
	for _, made := range o.service.bans.current() {
		known[strings.ToLower(made.Account)] = true
	}
	delete(known, "") // a ban of a network
	return known, nil
}
