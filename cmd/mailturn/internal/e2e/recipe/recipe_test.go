package recipe

import (
	"slices"
	"testing"
)

func TestBlocks(t *testing.T) {
	const document = "# One\n" + // 1
		"Text\n" +
		"    goes on here.\n" +
		"\n" +
		"    first\n" + // 5
		"\n" +
		"      second\n" +
		"Text.\n" +
		"## Two\n" +
		"    right after the heading\n" + // 10
		"\n" +
		"1. Item\n" +
		"   goes on\n" +
		"\n" +
		"       in the item\n" + // 15
		"\n" +
		"   and on:\n" +
		"\n" +
		"    only text\n" +
		"\n" + // 20
		"```\n" +
		"$ command\n" +
		"\n" +
		"    output\n" +
		"```\n" + // 25
		"Text.\n" +
		"\n" +
		"    after the list\n"
	want := []Block{
		{5, "One", false, "first\n\n  second\n"},
		{10, "Two", false, "right after the heading\n"},
		{15, "Two", false, "in the item\n"},
		{22, "Two", true, "$ command\n\n    output\n"},
		{28, "Two", false, "after the list\n"},
	}
	if got := Blocks(document); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := want[0].First(); got != "first" {
		t.Errorf("the first line is %q, want first", got)
	}
}
