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
	Accounts map[serial]string `json:"accounts,omitempty"`
	Last     int64             `json:"last,omitempty"`
	Latest   map[string]serial `json:"expiries,omitempty"` // of each account
}

// MarshalJSON returns the user names that are remembered, so that another process can take over the relay.
func (a *Accounts) MarshalJSON() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	state := func(g *generations) [2]issuedState {
		return [2]issuedState{{g.young.accounts, g.young.last, g.young.latest}, {g.old.accounts, g.old.last, g.old.latest}}
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
			*generation = issued{accounts: s[i].Accounts, latest: s[i].Latest, last: s[i].Last}
			if generation.accounts == nil && generation.latest != nil {
				generation.accounts = make(map[serial]string)
			}
			if generation.latest == nil && generation.accounts != nil {
				generation.latest = make(map[string]serial)
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
		for _, name := range slices.Sorted(maps.Keys(generation.accounts)) { // the latest one of an account comes last
			account := generation.accounts[name]
			if holder, taken := a.holder(name); taken && holder != account {
				account = ""
			}
			g.young.add(account, name)
		}
	}
}

// Record makes Recorded return the names that are issued from now on. It is called before MarshalJSON.
func (a *Accounts) Record() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handover, a.record = nil, true
}

// Recorded returns the user names that were issued since Record was called, at most as many as a generation has, and ends the record.
// They are for Learn in the process that has read what MarshalJSON returned. A name of an unknown account has itself as its account.
func (a *Accounts) Recorded() (names []Issued) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.handover {
		holder, _ := a.holder(name)
		names = append(names, Issued{name.String(), holder})
	}
	a.handover, a.record = nil, false
	return names
}

func (a *Accounts) recordName(name serial) {
	if a.record && len(a.handover) < maxIssued {
		a.handover = append(a.handover, name)
	}
}
