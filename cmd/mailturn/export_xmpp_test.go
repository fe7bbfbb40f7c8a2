package main

import "testing"

func TestLuaQuoted(t *testing.T) {
	for s, want := range map[string]string{
		"turn.example.org": `"turn.example.org"`,
		`"a" \ b`:          `"\"a\" \\ b"`,
		"1\n2\x003\x7f":    `"1\0102\0003\127"`,
		"ü":                `"ü"`,
	} {
		if got := luaQuoted(s); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
}
