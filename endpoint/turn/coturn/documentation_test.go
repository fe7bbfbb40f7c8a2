package coturn

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	directiveRow = regexp.MustCompile("(?m)^\\| (`.*`) \\| (`.*`) \\| .*\\|$")
	codeSpan     = regexp.MustCompile("`([^`]+)`")
)

// TestDocumentedDirectives checks that docs/coturn.md lists every directive that is translated, and that each row names the attribute
// that it becomes.
func TestDocumentedDirectives(t *testing.T) {
	page, err := os.ReadFile("../../../docs/coturn.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Directives\n")
	table, _, _ = strings.Cut(table, "\n## ")
	translated := func(text string) string {
		directives, err := Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := Translate(directives, "/etc").Write(&out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	const secret = "use-auth-secret\nstatic-auth-secret=north-of-coturn-and-east-of-it\n"
	rows := directiveRow.FindAllStringSubmatch(table, -1)
	if len(rows) < 20 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	for _, row := range rows {
		before := "listening-ip=192.0.2.1\ncert=/etc/cert.pem\npkey=/etc/key.pem\n" + secret
		switch {
		case strings.Contains(row[1], "lt-cred-mech"), strings.Contains(row[1], "auth-secret"):
			before = strings.ReplaceAll(before, secret, "")
		case strings.Contains(row[1], "cert="), strings.Contains(row[1], "listening-ip"):
			before = secret
		}
		var added strings.Builder
		for _, directive := range codeSpan.FindAllStringSubmatch(row[1], -1) {
			added.WriteString(directive[1] + "\n")
		}
		without, with := translated(before), translated(before+added.String())
		targets, block, _ := strings.Cut(row[2], " in ")
		if block != "" && !strings.Contains(with, codeSpan.FindStringSubmatch(block)[1]+" {") {
			t.Errorf("%s makes no block %s:\n%s", row[1], block, with)
		}
		for _, target := range codeSpan.FindAllStringSubmatch(targets, -1) {
			line := regexp.MustCompile(`(?m)^ *` + regexp.QuoteMeta(target[1]) + `(?: .*)?$`).FindString(with)
			if line == "" || strings.Contains(without, line+"\n") {
				t.Errorf("%s does not change %s:\n%s", row[1], target[1], with)
			}
		}
	}
	for name := range translations {
		if !regexp.MustCompile("`"+name+"[`=]").MatchString(table) && !fixedOrPart[name] {
			t.Errorf("the table lacks %s", name)
		}
	}
}

// fixedOrPart has directives that are accepted with the one value that mailturn has, or that belong to one in the table.
var fixedOrPart = map[string]bool{
	"channel-lifetime": true, "permission-lifetime": true, "rest-api-separator": true, "prometheus-path": true,
	"prometheus-port": true, "prometheus-address": true, "dtls": true, "Verbose": true, "use-auth-secret": true,
}
