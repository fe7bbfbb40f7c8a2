package cluster

import (
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/config/configtest"
)

func TestDecode(t *testing.T) {
	for name, text := range map[string]string{
		"one server":     "cluster {\n redis = [\"rediss://redis.example.org\"]\n}",
		"on loopback":    "cluster {\n redis = [\"redis://127.0.0.1:6379/2\"]\n region = \"eu\"\n}",
		"sentinels":      "cluster {\n redis = [\"rediss://a.example.org:26379\", \"rediss://b.example.org:26379\"]\n mode = \"sentinel\"\n sentinel_master = \"m\"\n}",
		"nodes":          "cluster {\n redis = [\"rediss://a.example.org\", \"rediss://b.example.org\"]\n mode = \"cluster\"\n}",
		"not encrypted":  "cluster {\n redis = [\"redis://192.0.2.1\"] # WARNING: Connection to Redis is not encrypted\n}",
		"no server":      "cluster { # ERROR: No Redis server\n}",
		"several":        "cluster {\n redis = [\"rediss://a.example.org\", \"rediss://b.example.org\"] # ERROR: Several Redis servers\n}",
		"other scheme":   "cluster {\n redis = [\"http://a.example.org\"] # ERROR: Not the URL of a Redis server\n}",
		"no host":        "cluster {\n redis = [\"redis://\"] # ERROR: Not the URL of a Redis server\n}",
		"parameters":     "cluster {\n redis = [\"rediss://a.example.org?db=1\"] # ERROR: Not the URL of a Redis server\n}",
		"password":       "cluster {\n redis = [\"rediss://u:sesame@a.example.org\"] # ERROR: Password in a URL\n}",
		"database":       "cluster {\n redis = [\"rediss://a.example.org/x\"] # ERROR: Not a database of Redis\n}",
		"database 1":     "cluster {\n redis = [\"rediss://a.example.org/1\"] # ERROR: Database of a Redis Cluster\n mode = \"cluster\"\n}",
		"mode":           "cluster {\n redis = [\"rediss://a.example.org\"]\n mode = \"ring\" # ERROR: Unknown mode\n}",
		"no master":      "cluster { # ERROR: Name of the master is missing\n redis = [\"rediss://a.example.org\"]\n mode = \"sentinel\"\n}",
		"unused master":  "cluster {\n redis = [\"rediss://a.example.org\"]\n sentinel_master = \"m\" # ERROR: Name of a master without Sentinel\n}",
		"mixed":          "cluster {\n redis = [\n\"rediss://a.example.org\",\n\"redis://localhost\", # ERROR: Redis servers differ\n]\n mode = \"cluster\"\n}",
		"user alone":     "cluster {\n redis = [\"rediss://a.example.org\"]\n user = \"u\" # ERROR: Password is missing\n}",
		"prefix":         "cluster {\n redis = [\"rediss://a.example.org\"]\n key_prefix = \"{a}\" # ERROR: Not a key prefix\n}",
		"rotation":       "cluster {\n redis = [\"rediss://a.example.org\"]\n key = \"0123456789abcdef0123456789abcdef\"\n secret_rotation = \"720h\"\n}",
		"without a key":  "cluster {\n redis = [\"rediss://a.example.org\"]\n secret_rotation = \"720h\" # ERROR: Key is missing\n}",
		"too often":      "cluster {\n redis = [\"rediss://a.example.org\"]\n key = \"0123456789abcdef0123456789abcdef\"\n secret_rotation = \"1h\" # ERROR: Secrets would be replaced too often\n}",
		"roots":          "cluster {\n redis = [\"rediss://a.example.org\"]\n ca_file = \"/dev/null/none\" # ERROR: Root certificates cannot be read\n}",
		"no certificate": "cluster {\n redis = [\"rediss://a.example.org\"]\n ca_file = \"/dev/null\" # ERROR: Root certificates cannot be\n}",
	} {
		t.Run(name, func(t *testing.T) {
			file, diags := config.Parse("maddy.conf", []byte(text))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			_, diags = Decode(file.Cluster)
			configtest.Expect(t, map[string][]byte{"maddy.conf": []byte(text)}, diags)
			for _, diag := range diags {
				if strings.Contains(diag.Detail, "sesame") {
					t.Errorf("the password is shown: %s", diag.Detail)
				}
			}
		})
	}
}

func TestNeedsRestart(t *testing.T) {
	decode := func(attributes string) Settings {
		file, diags := config.Parse("maddy.conf", []byte("cluster {\n redis = [\"rediss://a.example.org\"]\n"+attributes+"}"))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		s, diags := Decode(file.Cluster)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return s
	}
	for _, tt := range []struct {
		next Settings
		want string
	}{
		{decode(""), ""},
		{decode("region = \"eu\"\n weight = 3\n turn_server = \"turn.example.org\"\n"), ""},
		{decode("name = \"one\"\n key_prefix = \"p\"\n"), "cluster.key_prefix cluster.name"},
		{Settings{}, "cluster"},
	} {
		if got := strings.Join(NeedsRestart(decode(""), tt.next), " "); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
