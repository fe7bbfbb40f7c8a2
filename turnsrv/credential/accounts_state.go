package credential

import (
	"encoding/json"
	"maps"
	"slices"
)

// accountsState is what Accounts remembers, as JSON. The maps are those of Accounts.
type accountsState struct {
	Known   [2]issuedState `json:"known"`
	Unknown [2]issuedState `json:"unknown"`
}

type issuedState struct {
	Accounts map[int64]string `json:"accounts,omitempty"` // by expiry
	Last     int64            `json:"last,omitempty"`
	Expiries map[string]int64 `json:"expiries,omitempty"` // latest expiry of each account
}

// MarshalJSON returns the user names that are remembered, so that another process can take over the relay.
func (a *Accounts) MarshalJSON() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	state := func(g *generations) [2]issuedState {
		return [2]issuedState{{g.young.accounts, g.young.last, g.young.expiries}, {g.old.accounts, g.old.last, g.old.expiries}}
	}
	return json.Marshal(accountsState{state(&a.known), state(&a.unknown)})
}

// UnmarshalJSON adds the user names that another process remembers. One that was issued to different accounts is attributed to none.
func (a *Accounts) UnmarshalJSON(b []byte) error {
	var state accountsState
	if err := json.Unmarshal(b, &state); err != nil {
		return err
	}
	restore := func(s [2]issuedState) (g generations) {
		for i, generation := range [...]*issued{&g.young, &g.old} {
			*generation = issued{accounts: s[i].Accounts, expiries: s[i].Expiries, last: s[i].Last}
			if generation.accounts == nil && generation.expiries != nil {
				generation.accounts = make(map[int64]string)
			}
			if generation.expiries == nil && generation.accounts != nil {
				generation.expiries = make(map[string]int64)
			}
		}
		return g
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	known, unknown := a.known, a.unknown
	a.known, a.unknown = restore(state.Known), restore(state.Unknown)
	a.merge(&a.known, known)
	a.merge(&a.unknown, unknown)
	return nil
}

// merge adds the user names of from to g, one of the generations of a.
func (a *Accounts) merge(g *generations, from generations) {
	for _, generation := range [...]issued{from.old, from.young} {
		for _, second := range slices.Sorted(maps.Keys(generation.accounts)) { // the latest one of an account comes last
			account := generation.accounts[second]
			if holder, taken := a.holder(second); taken && holder != account {
				account = ""
			}
			g.young.add(account, second)
		}
	}
}
