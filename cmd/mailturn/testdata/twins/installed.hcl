hostname  = "mail.example.org"
state_dir = "/var/lib/madmail"

tls {
  cert = "/path/to/cert.pem"
  key  = "/path/to/key.pem"
}

endpoint "imap" "imap" {
  listen        = ["tls://0.0.0.0:993", "tcp://0.0.0.0:143"]
  insecure_auth = false

  turn_enable     = true
  turn_server     = "203.0.113.50"
  turn_port       = 3478
  turn_secret     = "correct horse battery staple"
  turn_ttl        = "24h"
  turn_prefer_tls = true

  idle_timeout   = "45m"
  proxy_protocol = ["10.0.0.0/8", "192.0.2.1/32"]

  upstream {
    address = "tcp://127.0.0.1:1143"
  }
  entries = {
    "/shared/comment"                    = "a mail server"
    "/shared/vendor/deltachat/irohrelay" = "http://203.0.113.50:3340"
  }
}

endpoint "turn" "turn" {
  listen      = ["udp://0.0.0.0:3478", "tcp://0.0.0.0:3478", "tls://0.0.0.0:3478"]
  realm       = "203.0.113.50"
  secret      = "correct horse battery staple"
  relay_ip    = "203.0.113.50"
  relay_ports = "50000-50999"
}
