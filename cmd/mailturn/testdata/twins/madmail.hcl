endpoint "imap" "imap" {
  turn_enable     = true
  turn_server     = "turn.example.com"
  turn_port       = 443
  turn_secret     = "shared secret"
  turn_ttl        = "24h"
  turn_prefer_tls = true # advertises TURNS as the default
}

endpoint "turn" "turn" {
  realm    = "example.com"
  secret   = "shared secret"
  relay_ip = "1.2.3.4"

  tls {
    cert = "/path/to/cert.pem"
    key  = "/path/to/key.pem"
  }
}
