package credsock

import (
	"testing"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/module/moduletest"
)

func TestDocumentedDefaults(t *testing.T) {
	moduletest.Defaults[Schema](t, func(t *testing.T, body string) any {
		file, diags := config.Parse("maddy.conf", []byte("endpoint \"credsock\" {\npath = \"/run/a.socket\"\n"+body+"\n}\n"))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		c, diags := Decode(file.Endpoints[0])
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return c
	})
}
