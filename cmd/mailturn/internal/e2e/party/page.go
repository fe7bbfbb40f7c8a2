package party

import (
	"context"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
)

// In makes a party in the page of a browser, which is closed with it, or on an error.
func In(ctx context.Context, b *browser.Browser, size, rate int) (*Party, error) {
	party := &Party{caller: b, prefix: "party."}
	party.close = func() error {
		defer b.Close()
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		return party.call(ctx, nil, "close")
	}
	if err := party.begin(ctx, size, rate); err != nil {
		b.Close()
		return nil, err
	}
	return party, nil
}
