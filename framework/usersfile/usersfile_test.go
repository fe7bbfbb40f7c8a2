package usersfile

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	f := Format{Line: "NAME:PASSWORD", Max: 10, Check: func(name, password string) error {
		if name == "" {
			return errors.New("the user name is empty")
		}
		return nil
	}}
	var many strings.Builder
	for i := range f.Max + 1 {
		fmt.Fprintf(&many, "user%d:secret\n", i)
	}
	for _, tt := range []struct {
		name, text string
		want       map[string]string
		err        string
	}{
		{"empty", "", map[string]string{}, ""},
		{"comments and empty lines", "# comment\n\n \nalice:secret\r\n", map[string]string{"alice": "secret"}, ""},
		{"colons and spaces in the password", "alice: a:b \nbob:ha1:0123\n", map[string]string{"alice": " a:b ", "bob": "ha1:0123"}, ""},
		{"no line end", "alice:secret", map[string]string{"alice": "secret"}, ""},
		{"no colon", "alice:secret\nsecret-alone", nil, "line 2 has no colon: want NAME:PASSWORD"},
		{"duplicate", "alice:one-secret\nalice:secret", nil, `line 2: duplicate user "alice"`},
		{"refused by Check", "\n:secret\n", nil, "line 2: the user name is empty"},
		{"long line", "alice:secret\nbob:" + strings.Repeat("x", maxLine), nil, "line 2 is longer than 4096 bytes"},
		{"too many", many.String(), nil, "line 11: more than 10 users"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f.parse(tt.text)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got the error %v, want one with %q and without a password", err, tt.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}
