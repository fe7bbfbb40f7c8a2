package main

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/holders"
	"github.com/mailturn/mailturn/framework/config"
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
