package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/configtest"
)

// testEndpoint has an attribute of each kind of value.
type testEndpoint struct {
	Listen    Value[[]string]          `hcl:"listen"`
	Realm     Value[string]            `hcl:"realm"`
	Secret    Value[[]testSecret]      `hcl:"secret" secret:"true"`
	RelayIP   Value[[]netip.Addr]      `hcl:"relay_ip"`
	Allow     Value[[]netip.Prefix]    `hcl:"allow"`
	Quota     Value[int]               `hcl:"quota"`
	Share     Value[float64]           `hcl:"share"`
	Users     Value[map[string]string] `hcl:"users" secret:"true"`
	Enable    Value[bool]              `hcl:"turn_enable"`
	Server    Value[string]            `hcl:"turn_server"`
	Port      Value[int]               `hcl:"turn_port"`
	TurnKey   Value[testSecret]        `hcl:"turn_secret" secret:"true"`
	TTL       Value[time.Duration]     `hcl:"turn_ttl"`
	PreferTLS Value[bool]              `hcl:"turn_prefer_tls"`
	TLS       *TLS                     `hcl:"tls,block"`
	Upstream  []testUpstream           `hcl:"upstream,block"`
}

type testUpstream struct {
	Block
	Address Value[string] `hcl:"address"`
}

// testSecret refuses one value with an error that quotes it, as a careless type might.
type testSecret struct{ key string }

func (s *testSecret) UnmarshalText(text []byte) error {
	if string(text) == "north hunter2" {
		return fmt.Errorf("%q is publicly known", text)
	}
	s.key = string(text)
	return nil
}

// readEndpoints loads a file and decodes its endpoints.
func readEndpoints(filename string) (*File, []testEndpoint, hcl.Diagnostics) {
	f, diags := Load(filename)
	endpoints, more := decodeEndpoints(f)
	return f, endpoints, append(diags, more...)
}

func decodeEndpoints(f *File) ([]testEndpoint, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	endpoints := make([]testEndpoint, len(f.Endpoints))
	for i, e := range f.Endpoints {
		diags = append(diags, e.Decode(&endpoints[i])...)
	}
	return endpoints, diags
}

func written(t *testing.T, f *File, diags hcl.Diagnostics) string {
	t.Helper()
	var out bytes.Buffer
	if err := f.WriteDiagnostics(&out, diags); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestValidFiles(t *testing.T) {
	for _, name := range fixtures(t, "valid") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			f, _, diags := readEndpoints(name)
			if len(diags) > 0 {
				t.Errorf("read as %v:\n%s", f.Syntax, written(t, f, diags))
			}
		})
	}
}

// TestInvalidFiles compares the diagnostics of each file with the comments on its lines.
func TestInvalidFiles(t *testing.T) {
	for _, name := range fixtures(t, "invalid") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Chdir(filepath.Dir(name))
			f, _, diags := readEndpoints(filepath.Base(name))
			configtest.Expect(t, f.sources.text, diags)
		})
	}
}

func fixtures(t *testing.T, folder string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", folder, "*.conf"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no fixtures in %s: %v", folder, err)
	}
	for i, name := range names {
		if names[i], err = filepath.Abs(name); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(names[i]); err != nil {
			t.Fatal(err)
		}
	}
	return names
}
