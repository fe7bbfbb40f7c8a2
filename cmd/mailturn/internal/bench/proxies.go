package bench

import "path/filepath"

// A proxy is a program to be measured in front of Dovecot. Its configuration and command contain variables: see startServers.
type proxy struct {
	name          string
	configuration string // the contents of $file
	command       []string
}

// proxies returns all proxies: mailturn as built from this source and from others, and the rest.
func proxies(binary string, others []string) []proxy {
	list := []proxy{mailturnProxy(mailturn, binary)}
	for _, other := range others {
		list = append(list, mailturnProxy(filepath.Base(other), other))
	}
	return append(list,
		proxy{goForwarder, "", []string{"${bench}", "forward", "${listen}", "${backend}", "${cert}", "${key}"}},
		proxy{nginxStream, nginxStreamConfiguration, nginxCommand},
		proxy{nginxMail, nginxMailConfiguration, nginxCommand},
		proxy{haproxy, haproxyConfiguration, []string{"haproxy", "-db", "-f", "${file}"}},
	)
}

func mailturnProxy(name, binary string) proxy {
	return proxy{name, mailturnConfiguration, []string{binary, "run", "--state-dir", "${state}", "--config", "${file}"}}
}

var nginxCommand = []string{"nginx", "-e", "stderr", "-c", "${file}"}

const mailturnConfiguration = `
hostname = "localhost"
tls {
  cert = "${cert}"
  key  = "${key}"
}
endpoint "imap" "imap" {
  listen      = ["tls://${listen}"]
  turn_server = "turn.example.org"
  turn_secret = "a secret of the benchmark, 32 bytes"
  upstream {
    address = "tcp://${backend}"
  }
}
`

// nginx's worker is the process that uses CPU time.
const nginxConfiguration = `
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid "${pid}";
error_log stderr crit;
events {
  worker_connections 16384;
}
`

const nginxStreamConfiguration = `load_module "${modules}/ngx_stream_module.so";` + nginxConfiguration + `
stream {
  server {
    listen ${listen} ssl;
    ssl_certificate "${cert}";
    ssl_certificate_key "${key}";
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_pass ${backend};
    proxy_timeout 1h;
  }
}
`

const nginxMailConfiguration = `load_module "${modules}/ngx_mail_module.so";` + nginxConfiguration + `
mail {
  auth_http ${auth};
  timeout 1h;
  server {
    listen ${listen} ssl;
    protocol imap;
    ssl_certificate "${cert}";
    ssl_certificate_key "${key}";
    ssl_protocols TLSv1.2 TLSv1.3;
  }
}
`

const haproxyConfiguration = `
global
  nbthread 1
  maxconn 9900
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
frontend imaps
  bind ${listen} ssl crt "${pair}" ssl-min-ver TLSv1.2
  default_backend imap
backend imap
  server dovecot ${backend}
`
