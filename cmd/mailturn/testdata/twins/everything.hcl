locals {
  domain = "example.org"
}

hostname  = "mail.${local.domain}"
state_dir = "/var/lib/mailturn"

tls {
  cert = "/path/to/cert.pem"
  key  = "/path/to/key.pem"
}

log {
  level  = "debug"
  format = "json"
}

accounts {
  delimiter = "-"
  domain    = local.domain
}

endpoint "turn" "turn" {
  listen        = ["udp://198.51.100.7:3478", "tcp://198.51.100.7:3478", "tls://198.51.100.7:5349"]
  realm         = local.domain
  secret        = ["correct horse battery staple", "battery staple correct horse"]
  relay_ip      = ["198.51.100.7", "2001:db8::7"]
  relay_bind    = "10.0.0.7"
  relay_ports   = "50000-59999"
  proxy_protocol= ["10.0.0.5/32", "fd00::5/128"]
  user_quota    = 4
  source_quota  = 50
  max_bps       = 3000000
  total_bps     = 1000000000
  total_quota   = 200
  users = {
    alice = "correct horse battery"
    bob = "ha1:0123456789abcdef0123456789abcdef"
  }
  max_lifetime = 1800
  nonce_lifetime = 300
  software = "a relay"
  expired_grace = "12h"
  max_credential_lifetime = "720h"
  drain_timeout = 30
  unauthenticated_rate = 50
  max_guesses = 0
  max_connections = 500
  max_permissions = 64
  max_channels = 32
  strict_channels = true

  peers {
    allow = ["10.1.0.0/16", "fd00::/8"]
    deny  = ["192.0.2.0/24"]
    silent_bytes = 100000
  }

  user_realm "example.net" {
    names = ["turn.example.net", "example.net"]
    users = { carol = "correct horse battery" }
  }
}

endpoint "imap" "imap" {
  listen        = ["tls://0.0.0.0:993", "tcp://0.0.0.0:143"]
  insecure_auth = false

  upstream {
    address         = ["tls://imap.${local.domain}:993", "tls://imap2.${local.domain}:993"]
    connect_timeout = "5s"
    client_address  = "proxy2"
    tls_server_name = "imap.${local.domain}"
  }

  entries = {
    "/shared/comment" = "calls work here"
    "/shared/admin"   = "mailto:postmaster@${local.domain}"
  }

  turn_server     = "turn.${local.domain}"
  turns_port      = 5349
  turn_ttl        = "120h"
  turn_prefer_tls = false
  turn_wake_idle  = true

  max_connections             = 5000
  max_unauthenticated         = 20
  max_unauthenticated_network = 200
  login_timeout               = "30s"
  idle_timeout                = "45m"
  proxy_protocol              = ["10.0.0.5/32", "fd00::5/128"]
}

endpoint "credsock" "chatmail" {
  path     = "/run/mailturn/turn.socket"
  mode     = "0600"
  owner    = "root"
  group    = 0
  turn_ttl = 360000
}

endpoint "dict" "dovecot" {
  path            = "/run/mailturn/dict.socket"
  group           = 0
  next            = "/run/chatmail-metadata/metadata.socket"
  max_connections = 500
  turn_server     = "turn.example.org"
  turn_port       = 3478
  turn_transports = ["udp", "tcp"]
  turns_port      = 5349
  turn_secret     = "correct horse battery staple"
  turn_ttl        = 432000
  turn_prefer_tls = false
}

endpoint "http" "http" {
  listen          = ["https://0.0.0.0:8443", "http://127.0.0.1:8080"]
  trusted_proxies = ["127.0.0.1/32", "::1/128"]
  api_keys        = ["a key for the web client", "and another one, for the app"]
  open            = "/ice"
  metrics_from    = ["192.0.2.0/24"]
  allow_origins   = ["https://app.${local.domain}", "https://beta.${local.domain}"]
  rate            = 60
  max_connections = 200
  turn_server     = "turn.${local.domain}"
  turn_ttl        = "24h"
}

endpoint "http" "two relays" {
  listen   = "http://127.0.0.1:8081"
  api_keys = "a key for the other web client"

  relay {
    turns_port = 5349
    weight     = 2
  }
  relay {
    turn_server = "coturn.${local.domain}"
    turn_port   = 443
    turn_transports = ["udp"]
    turns_port  = 0
    turn_secret = "another correct horse battery"
    weight      = 3
  }
}
