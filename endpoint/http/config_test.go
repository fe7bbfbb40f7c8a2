package http

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/config/configtest"
	"github.com/mailturn/mailturn/framework/module/moduletest"
)

// TestInvalid decodes the files of testdata/invalid, whose comments hold the expected diagnostics.
func TestInvalid(t *testing.T) {
	names, err := filepath.Glob("testdata/invalid/*.conf")
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, diags := config.Parse(name, text)
			for _, endpoint := range file.Endpoints {
				_, more := Decode(endpoint, Defaults{})
				diags = append(diags, more...)
			}
			configtest.Expect(t, map[string][]byte{name: text}, diags)
		})
	}
}

func TestDefaults(t *testing.T) {
	file, diags := config.Parse("maddy.conf", []byte(`endpoint "http" "http" {}`))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	c, diags := Decode(file.Endpoints[0], Defaults{})
	if len(diags) > 0 {
		t.Error(diags)
	}
	if len(c.Listen) != 1 || c.Listen[0].String() != "http://127.0.0.1:8080" {
		t.Errorf("listens on %v, want only loopback", c.Listen)
	}
	if c.Issues() {
		t.Error("issues credentials by default")
	}
	for _, network := range c.MetricsFrom {
		if !network.Addr().IsLoopback() {
			t.Errorf("shows metrics to %v", network)
		}
	}
	if c.Rate == 0 || c.MaxConnections == 0 {
		t.Errorf("has no limits: %+v", c)
	}
}

func TestDocumentedDefaults(t *testing.T) {
	moduletest.Defaults[Schema](t, func(t *testing.T, body string) any {
		file, diags := config.Parse("maddy.conf", []byte("endpoint \"http\" {\n"+body+"\n}\n"))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		c, diags := Decode(file.Endpoints[0], Defaults{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return c
	})
}
