endpoint "turn" "turn" {
  listen         = ["udp://*:3478", "tls://*:5349"]
  realm          = "jitsi.example.com"
  secret         = "qwertyuiopasdfghjkl"
  relay_ports    = "49152-65535"
  default_family = "client"

  tls {
    cert = "/etc/coturn/cert.pem"
    key  = "/etc/coturn/key.pem"
  }
}

# Worth checking:
#   line 8, cert: coturn 4.17 has DTLS only with the directive dtls, and older ones unless it says no-dtls: if clients use it, add "dtls://*:5349" to listen

# No line needed here:
#   line 5, server-name: it is for OAuth (RFC 7635), which is not offered
#   line 7, relay-ip: mailturn detects the address automatically
#   line 10, no-multicast-peers: multicast peers are refused by default
#   line 11, no-cli: there is no console
#   line 12, no-loopback-peers: loopback peers are refused by default
#   line 13, no-tcp-relay: TCP relays (RFC 6062) are never made
#   line 17, no-tlsv1: TLS 1.2 and 1.3 with the ciphers that Go considers safe
#   line 18, no-tlsv1_1: TLS 1.2 and 1.3 with the ciphers that Go considers safe
#   line 19, cipher-list: TLS 1.2 and 1.3 with the ciphers that Go considers safe
#   line 20, dh2066: TLS 1.2 and 1.3 with the ciphers that Go considers safe
#   lines 21-42, denied-peer-ip: refused by default
#   line 43, syslog: the log goes to standard error, and from there to systemd's journal: see log
