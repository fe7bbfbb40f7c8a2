package dict

import (
	"testing"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/module/moduletest"
)

func TestDocumentedDefaults(t *testing.T) {
	moduletest.Defaults[Schema](t, func(t *testing.T, body string) any {
		file, diags := config.Parse("maddy.conf", []byte("endpoint \"dict\" {\npath = \"/run/a.socket\"\n"+body+"\n}\n"))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		c, diags := Decode(file.Endpoints[0], "turn.example.org")
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return c
	})
}
