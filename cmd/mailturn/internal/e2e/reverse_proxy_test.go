package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// TestReverseProxy puts nginx in front of the HTTP endpoint, on the same machine, and checks that its clients get credentials and
// no metrics, however few headers nginx adds.
func TestReverseProxy(t *testing.T) {
	t.Parallel()
	peer(t, "nginx", "nginx-light")
	p := freePorts(t)
	var ports [3]int
	for i := range ports {
		var err error
		if ports[i], err = daemon.FreePort("127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	strange, trusting, front := ports[0], ports[1], ports[2]
	path := configure(t, p, "", "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, door := range []struct {
		port  int
		extra string
	}{{strange, ""}, {trusting, `trusted_proxies = "127.0.0.1/32"`}} {
		text = fmt.Appendf(text, `
endpoint "http" "http%[1]d" {
  listen      = "http://127.0.0.1:%[1]d"
  api_keys    = %[2]q
  turn_server = "127.0.0.1"
  %[3]s
}
`, door.port, apiKey, door.extra)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, t.TempDir(), "--config", path)

	startNginx(t, fmt.Sprintf(`server {
  listen 127.0.0.1:%[1]d;
  location /bare/ { proxy_pass http://127.0.0.1:%[2]d/; }
  location /told/ {
    proxy_pass http://127.0.0.1:%[2]d/;
    proxy_http_version 1.1;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  }
  location /trusted/ {
    proxy_pass http://127.0.0.1:%[3]d/;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  }
}
`, front, strange, trusting))

	client := plainClient(t)
	get := func(port int, path string, forwarded string) (status int) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(port)+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+apiKey)
		if forwarded != "" {
			request.Header.Set("X-Forwarded-For", forwarded)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	for _, tt := range []struct {
		name      string
		port      int
		path      string
		forwarded string
		want      int
	}{
		{"directly", strange, "", "", 200},
		{"through nginx as it is", front, "/bare", "", 403},
		{"through nginx that names the client", front, "/told", "", 403},
		{"by a client that lies", front, "/bare", "127.0.0.1", 403},
		{"through a trusted nginx, from somewhere else", front, "/trusted", "198.51.100.7, 198.51.100.8", 403},
	} {
		if got := get(tt.port, tt.path+"/metrics", tt.forwarded); got != tt.want {
			t.Errorf("metrics %s: status %d, want %d", tt.name, got, tt.want)
		}
		if got := get(tt.port, tt.path+"/turn", tt.forwarded); got != 200 {
			t.Errorf("credentials %s: status %d, want 200", tt.name, got)
		}
	}
	s.waitFor(t, s.stderr, "requests come through an untrusted proxy")
}

// startNginx runs nginx, with servers for HTTP, until the test ends.
func startNginx(t *testing.T, servers string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, `
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr notice;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
%[2]s}
`, dir, servers), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := daemon.Start(t.Context(), exec.Command(peer(t, "nginx", "nginx-light"), "-e", "stderr", "-c", path), "getrlimit")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
}
