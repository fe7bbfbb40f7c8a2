package party

import (
	"context"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/browser"
)

// In makes a party in the page of a browser, which Close then closes as well.
func In(ctx context.Context, b *browser.Browser, size, rate int) (*Party, error) {
	party := &Party{caller: b, prefix: "party."}
	party.close = func() error {
		defer b.Close()
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		return party.call(ctx, nil, "close")
	}
	return party, party.begin(ctx, size, rate)
}
