package config

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// decodeText decodes the body of one endpoint.
func decodeText(t *testing.T, body string, target any) (*File, hcl.Diagnostics) {
	t.Helper()
	f, diags := Parse("maddy.conf", []byte("endpoint \"turn\" {\n"+body+"\n}\n"))
	if len(diags) > 0 {
		t.Fatal(written(t, f, diags))
	}
	return f, f.Endpoints[0].Decode(target)
}

func TestPresets(t *testing.T) {
	type block struct {
		Max Value[int] `hcl:"max"`
	}
	var target struct {
		Absent  Value[string]   `hcl:"absent"`
		Present Value[string]   `hcl:"present"`
		Wrong   Value[int]      `hcl:"wrong"`
		List    Value[[]string] `hcl:"list"`
		Block   *block          `hcl:"block,block"`
		None    *block          `hcl:"none,block"`
		ignored string
	}
	target.Absent.V, target.Present.V, target.Wrong.V, target.ignored = "preset", "preset", 7, "kept"
	target.List.V = []string{"preset"}
	target.Block = &block{Max: Value[int]{V: 9}}
	_, diags := decodeText(t, "present = \"set\"\nwrong = \"x\"\nlist = []\nblock {\n}", &target)
	if len(diags) != 1 {
		t.Fatalf("got %v", diags)
	}
	if target.Absent.V != "preset" || target.Absent.Set || target.Absent.Range != (hcl.Range{}) {
		t.Errorf("absent: %+v", target.Absent)
	}
	if target.Present.V != "set" || !target.Present.Set {
		t.Errorf("present: %+v", target.Present)
	}
	if target.Wrong.V != 7 || !target.Wrong.Set || target.Wrong.Range.Start.Line != 3 {
		t.Errorf("wrong: %+v", target.Wrong)
	}
	if len(target.List.V) != 0 || !target.List.Set {
		t.Errorf("list: %+v", target.List)
	}
	if target.Block.Max.V != 9 || target.None != nil {
		t.Errorf("blocks: %+v, %+v", target.Block, target.None)
	}
}

// TestEmbedded checks that the fields of embedded structs are decoded, and printed by Reference in their place.
func TestEmbedded(t *testing.T) {
	type Inner struct {
		Secret Value[string] `hcl:"secret" secret:"true"`
	}
	type Common struct {
		Inner
		Server Value[string] `hcl:"server"`
	}
	var target struct {
		First Value[string] `hcl:"first"`
		Common
		Last Value[string] `hcl:"last"`
	}
	target.Server.V = "preset"
	f, diags := decodeText(t, "first = \"1\"\nlast = \"2\"\nsecret = \"hush hush\"", &target)
	if len(diags) > 0 {
		t.Fatal(written(t, f, diags))
	}
	if target.First.V != "1" || target.Last.V != "2" || target.Secret.V != "hush hush" || target.Server.V != "preset" {
		t.Errorf("got %+v", target)
	}
	if text := written(t, f, hcl.Diagnostics{Errorf(target.Secret.Range, "No", "No.")}); strings.Contains(text, "hush") {
		t.Errorf("the secret of an embedded struct is shown:\n%s", text)
	}
	var reference strings.Builder
	if err := Reference(&reference, Section{Target: target}.Reference()); err != nil {
		t.Fatal(err)
	}
	if got := regexp.MustCompile(`(?m)^\w+`).FindAllString(reference.String(), -1); strings.Join(got, " ") != "first secret server last" {
		t.Errorf("got %q in the reference:\n%s", got, &reference)
	}
}

func TestPlaces(t *testing.T) {
	type user struct {
		Block
		Name     Value[string] `hcl:"name,label"`
		Password Value[string] `hcl:"password" secret:"true"`
	}
	var target struct {
		Listen Value[[]string] `hcl:"listen"`
		One    Value[[]string] `hcl:"one"`
		Users  []user          `hcl:"user,block"`
	}
	const body = `  listen = ["a", "b"]
  one    = "c"
  user "alice" {
    password = "x"
  }
  user "bob" {
  }`
	f, diags := decodeText(t, body, &target)
	if len(diags) > 0 {
		t.Fatal(written(t, f, diags))
	}
	var got []string
	for _, rng := range []hcl.Range{
		target.Listen.Range, target.Listen.At(0), target.Listen.At(1), target.Listen.At(2), target.One.At(0),
		target.Users[0].Range, target.Users[0].Name.Range, target.Users[0].Password.Range, target.Users[1].Range,
	} {
		got = append(got, rng.String())
	}
	want := "maddy.conf:2,12-22 maddy.conf:2,13-16 maddy.conf:2,18-21 maddy.conf:2,12-22 maddy.conf:3,12-15 " +
		"maddy.conf:4,3-15 maddy.conf:4,8-15 maddy.conf:5,16-19 maddy.conf:7,3-13"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	if target.Users[0].Name.V != "alice" || target.Users[1].Password.Set {
		t.Errorf("users %+v", target.Users)
	}
}

func TestBool(t *testing.T) {
	tests := map[string]string{
		`true`: "true", `false`: "false", `"yes"`: "true", `"no"`: "false", `"on"`: "true", `"off"`: "false",
		`"true"`: "true", `"false"`: "false", `"1"`: "true", `"0"`: "false", `1`: "true", `0`: "false",
		`2`: "Not true or false", `"Yes"`: "Not true or false", `""`: "Not true or false", `{}`: "Not true or false",
	}
	for expr, want := range tests {
		var target struct {
			V Value[bool] `hcl:"v"`
		}
		_, diags := decodeText(t, "v = "+expr, &target)
		got := fmt.Sprint(target.V.V)
		if len(diags) > 0 {
			got = diags[0].Summary
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	tests := map[string]string{
		`86400`: "24h0m0s", `"86400"`: "24h0m0s", `"24h"`: "24h0m0s", `"1h30m"`: "1h30m0s", `0.5`: "500ms", `0`: "0s",
		`9223372036`: "2562047h47m16s", `9223372037`: "Duration is too long", `1e300`: "Duration is too long",
		`"3000000h"`: "Not a duration", `-1`: "Duration is negative", `"-1s"`: "Duration is negative", `"1 day"`: "Not a duration",
		`""`: "Not a duration", `true`: "Not a duration",
		`"5d"`: "120h0m0s", `"1d12h"`: "36h0m0s", `"0d"`: "0s", `"d"`: "Not a duration", `"-1d"`: "Not a duration", `"1d-1h"`: "Not a duration",
		`"1d+1h"`: "Not a duration", `"1h1d"`: "Not a duration", `"1d1d"`: "Not a duration", `"70000d"`: "Not a duration", `"60000d2000000h"`: "Not a duration",
	}
	for expr, want := range tests {
		var target testEndpoint
		_, diags := decodeText(t, "turn_ttl = "+expr, &target)
		got := target.TTL.V.String()
		if len(diags) > 0 {
			got = diags[0].Summary
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
}

func TestInteger(t *testing.T) {
	tests := map[string]string{
		`443`: "443", `"443"`: "443", `-1`: "-1", `1e3`: "1000", `9223372036854775807`: "9223372036854775807",
		`9223372036854775808`: "Not a whole number", `0.1`: "Not a whole number", `"0x10"`: "Not a whole number",
		`"1e999999999"`: "Not a whole number", `"1e99999999999999999999"`: "Not a whole number", `"Inf"`: "Not a whole number",
	}
	for expr, want := range tests {
		var target testEndpoint
		_, diags := decodeText(t, "quota = "+expr, &target)
		got := fmt.Sprint(target.Quota.V)
		if len(diags) > 0 {
			got = diags[0].Summary
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
}

// TestTargets checks that decoding into a target struct with a mistake panics.
func TestTargets(t *testing.T) {
	targets := map[string]any{
		"not a pointer": testEndpoint{},
		"plain field of a type that cannot be decoded": &struct {
			Realm *string `hcl:"realm"`
		}{},
		"default of another type": &struct {
			Realm int `hcl:"realm" default:"example.org"`
		}{},
		"bounds of a string": &struct {
			Realm string `hcl:"realm" min:"1"`
		}{},
		"unknown role": &struct {
			Realm Value[string] `hcl:"realm,optional"`
		}{},
		"type that cannot be decoded": &struct {
			Realm Value[[][]string] `hcl:"realm"`
		}{},
	}
	for name, target := range targets {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			decodeText(t, "realm = \"x\"", target)
		})
	}
}

func TestComputedValues(t *testing.T) {
	tests := []struct{ body, want string }{
		{`realm = true`, "realm true"},
		{`realm = 1.50`, "realm 1.5"},
		{`users = { for n in ["a", "b"] : n => "x${n}" }`, "users map[a:xa b:xb]"},
		{`users = { for n in ["a", "b"] : n => [n] }`, "Not a string,Not a string"},
		{`users = [for n in ["a", "b"] : n]`, "Not a map of strings"},
		{`listen = [for n in [1, null] : n]`, "Value is null"},
		{`listen = "${"a"}"`, "listen [a]"},
		{`listen = null`, "Value is null"},
		{`relay_ip = ""`, "Not an IP address"},
		{`relay_ip = []`, ""},
		{`share = 1e300`, "share 1e+300"},
		{`share = "1e400"`, "Not a number"},
		{`turn_server = foo.bar`, "Unknown variable"},
		{`turn_server = local["x"]`, "Invalid index"},
	}
	for _, test := range tests {
		var target testEndpoint
		_, diags := decodeText(t, test.body, &target)
		var got []string
		for _, diag := range diags {
			got = append(got, diag.Summary)
		}
		if len(diags) == 0 {
			for name, value := range map[string]any{
				"realm": target.Realm.V, "users": target.Users.V, "listen": target.Listen.V, "share": target.Share.V,
			} {
				if shown := fmt.Sprint(value); shown != "" && shown != "map[]" && shown != "[]" && shown != "0" {
					got = append(got, name+" "+shown)
				}
			}
		}
		if strings.Join(got, ",") != test.want {
			t.Errorf("%s: got %s, want %s", test.body, got, test.want)
		}
	}
}

// TestContexts decodes with contexts that callers other than File might pass.
func TestContexts(t *testing.T) {
	f, diags := Parse("maddy.conf", []byte("endpoint \"turn\" {\n  realm = name\n}\n"))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	parent := &hcl.EvalContext{Variables: map[string]cty.Value{"name": cty.StringVal("x")}}
	tests := []struct {
		name, want string
		ctx        *hcl.EvalContext
	}{
		{"none", "Variables not allowed", nil},
		{"unknown value", "Value is unknown", &hcl.EvalContext{Variables: map[string]cty.Value{"name": cty.UnknownVal(cty.String)}}},
		{"other variables", "Unknown variable", &hcl.EvalContext{Variables: map[string]cty.Value{"other": cty.StringVal("x")}}},
		{"parent", "", parent.NewChild()},
	}
	for _, test := range tests {
		var target testEndpoint
		diags := Decode(f.Endpoints[0].Body, test.ctx, &target)
		switch {
		case test.want == "" && (len(diags) > 0 || target.Realm.V != "x"):
			t.Errorf("%s: got %q, %v", test.name, target.Realm.V, diags)
		case test.want != "" && (len(diags) != 1 || diags[0].Summary != test.want):
			t.Errorf("%s: got %v, want %s", test.name, diags, test.want)
		}
	}
}

func TestLocals(t *testing.T) {
	tests := []struct{ src, want string }{
		{"hostname = local.a\nlocals {\n  a = \"${local.b}.org\"\n  b = \"example\"\n}\n", "example.org"},
		{"hostname = local[\"a\"]\nlocals {\n  a = 1\n}\n", "1"},
		{"hostname = local[\"a${1}\"]\nlocals {\n  a1 = 1\n}\n", "1"},
		{"hostname = local.a[local.i]\nlocals {\n  a = [\"x\", \"y\"]\n  i = 1\n}\n", "y"},
		{"hostname = local.a\nlocals {\n  a = local[\"b${1}\"]\n  b1 = 1\n}\n", "Circular definition"},
		{"hostname = hostname\n", "Circular definition"},
		{"hostname = local.a\nlocals {\n  a = state_dir\n}\nstate_dir = local.b\n", "Unsupported attribute"},
		{"hostname = local.a\nlocals {\n  a = state_dir\n}\n", "Variable has no value"},
		{"hostname = \"x\"\nlocals {\n  a = 1\n  b {\n  }\n}\n", "Unexpected \"b\" block"},
	}
	for _, test := range tests {
		f, diags := Parse("maddy.conf", []byte(test.src))
		got := f.Hostname.V
		if len(diags) > 0 {
			got = diags[0].Summary
		}
		if got != test.want || len(diags) > 1 {
			t.Errorf("%s\ngot %s, want %s\n%s", test.src, got, test.want, written(t, f, diags))
		}
	}
}
