package main

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/ledger"
	"github.com/mailturn/mailturn/framework/control"
)

// maxUsageDays is the number of days of which usage can be kept, and today.
const maxUsageDays = 367

// usageReport is the response to GET /v1/usage.
type usageReport struct {
	// Usage has today first, and the accounts of a day that have relayed most.
	Usage []ledger.Entry `json:"usage"`
}

// usage answers GET /v1/usage.
func (o *operators) usage(_ http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	for name := range query {
		if name != "account" && name != "days" {
			return nil, control.Errorf(http.StatusBadRequest, "there is no parameter %q", name)
		}
	}
	days := 1
	if text := query.Get("days"); text != "" {
		var err error
		if days, err = strconv.Atoi(text); err != nil || days < 1 || days > maxUsageDays {
			return nil, control.Errorf(http.StatusBadRequest, "days %q: want a number from 1 to %d", text, maxUsageDays)
		}
	}
	found, on := o.service.book.Find(days)
	if !on {
		return nil, control.Errorf(http.StatusConflict, "usage is not kept: set usage in the control block of the configuration")
	}
	if account := query.Get("account"); account != "" {
		masked := make(map[string]string) // by day: each has a key of its own
		found = slices.DeleteFunc(found, func(e ledger.Entry) bool {
			if _, known := masked[e.Day]; !known {
				day, _ := time.Parse(time.DateOnly, e.Day)
				masked[e.Day] = o.service.privacy.AccountOn(day, o.account(account))
			}
			return !strings.EqualFold(e.Account, account) && !strings.EqualFold(e.Account, masked[e.Day])
		})
	}
	o.changed(r, "usage was read", "days", days, "account", query.Get("account"), "count", len(found))
	return usageReport{append([]ledger.Entry{}, found...)}, nil
}
