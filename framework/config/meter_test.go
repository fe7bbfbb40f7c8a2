package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestExpressionsAreBounded checks that small files with values of enormous size are refused without computing them.
func TestExpressionsAreBounded(t *testing.T) {
	chain := func(first, line string, n int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "locals {\n l0 = %s\n", first)
		for i := 1; i <= n; i++ {
			b.WriteString(strings.NewReplacer("NEXT", fmt.Sprint("l", i), "LAST", fmt.Sprint("local.l", i-1)).Replace(" NEXT = "+line) + "\n")
		}
		b.WriteString("}\n")
		return b.String()
	}
	big := "locals {\n l = [" + strings.Repeat(`"1", `, 60) + "]\n}\n"
	loops := "1"
	for i := range 8 {
		loops = fmt.Sprintf("[for x%d in local.l : %s]", i, loops)
	}
	secret := func(expr string) string { return "endpoint \"turn\" \"turn\" {\n secret = " + expr + "\n}\n" }
	for name, text := range map[string]string{
		"text":             chain(`"0123456789abcdef"`, `"${LAST}${LAST}"`, 60),
		"text with spaces": chain(`"0123456789abcdef"`, `" ${LAST} ${LAST} ${LAST}"`, 60),
		"list":             chain(`["0123456789abcdef"]`, `[LAST, LAST]`, 60),
		"map":              chain(`{ a = "0123456789abcdef" }`, `{ a = LAST, b = LAST }`, 60),
		"lists of lists":   chain(`[1]`, `[for x in [LAST, LAST] : [LAST, x]]`, 60),
		"chain":            chain(`[]`, `[LAST]`, 2000),
		"in one":           secret(`"`+strings.Repeat("${local.l}", 80)+`"`) + "locals {\n l = \"" + strings.Repeat("x", 100000) + "\"\n}\n",
		"list of texts":    secret(`[`+strings.Repeat("local.l, ", 20000)+`]`) + "locals {\n l = \"" + strings.Repeat("x", 100000) + "\"\n}\n",
		"for":              big + secret(loops),
		"for without end":  big + secret("[for x in local.l : [for y in local.l : [for z in local.l : 1 if false]]]"),
		"for in template":  big + secret(`"%{ for x in local.l }%{ for y in local.l }%{ for z in local.l }${x}%{ endfor }%{ endfor }%{ endfor }"`),
		"for of a map":     big + secret(`{ for k, x in local.l : k => [for y in local.l : [for z in local.l : "${x}${y}${z}"]] }`),
		"env":              secret(`[for x in local.l : [for y in local.l : [for z in local.l : env("PATH", "")]]]`) + big,
	} {
		t.Run(name, func(t *testing.T) {
			f, diags := Parse("maddy.conf", []byte(text))
			_, more := decodeEndpoints(f)
			out := written(t, f, append(diags, more...))
			if got := strings.Count(out, "Configuration too large after expansion"); got != 1 {
				t.Errorf("reported %d times, want once:\n%.2000s", got, out)
			}
		})
	}
}

// TestExpressionsOfUse checks that expressions larger than a configuration needs are evaluated.
func TestExpressionsOfUse(t *testing.T) {
	var users strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&users, "  \"user%d@example.org\" = \"%060d\"\n", i, i)
	}
	f, diags := Parse("maddy.conf", []byte("locals {\n users = {\n"+users.String()+` }
}
endpoint "turn" "turn" {
  listen = [for port in [3478, 443] : "udp://0.0.0.0:${port}"]
  users  = { for name, password in local.users : "${name}.example.net" => password }
}
`))
	endpoints, more := decodeEndpoints(f)
	if diags = append(diags, more...); len(diags) > 0 {
		t.Fatal(written(t, f, diags))
	}
	if e := endpoints[0]; len(e.Users.V) != 3000 || fmt.Sprint(e.Listen.V) != "[udp://0.0.0.0:3478 udp://0.0.0.0:443]" {
		t.Errorf("%d users, listen %v", len(e.Users.V), e.Listen.V)
	}
}
