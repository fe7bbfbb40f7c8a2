endpoint "turn" "turn" {
  listen      = ["udp://*:3478", "tcp://*:3478", "tls://*:5349"]
  realm       = "turn.myserver.org"
  secret      = "the secret that homeserver.yaml has too"
  relay_ip    = ["203.0.113.10", "2001:db8::10"]
  relay_ports = "49152-65535"
  user_quota  = 12
  total_quota = 1200

  tls {
    cert = "/etc/coturn/cert.pem"
    key  = "/etc/coturn/key.pem"
  }

  peers {
    allow = "10.0.0.1/32"
  }
}

# Worth checking:
#   line 34, cert: coturn 4.17 has DTLS only with the directive dtls, and older ones unless it says no-dtls: if clients use it, add "dtls://*:5349" to listen

# No line needed here:
#   line 6, no-tcp-relay: TCP relays (RFC 6062) are never made
#   lines 9-11, denied-peer-ip: refused by default
#   line 14, no-multicast-peers: multicast peers are refused by default
#   lines 15-25, denied-peer-ip: refused by default
