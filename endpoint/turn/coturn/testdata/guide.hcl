log {
  level = "debug"
}

endpoint "turn" "turn" {
  listen         = ["udp://*:3478", "tcp://*:3478", "tls://*:5349"]
  realm          = "turn.example.org"
  secret         = ["correct horse \"battery\" $${staple}", "the one before, until its credentials expire"]
  relay_ip       = "198.51.100.7"
  relay_bind     = "10.0.0.7"
  relay_ports    = "49152-65535"
  user_quota     = 12
  total_quota    = 1300
  max_bps        = 512000
  total_bps      = 0
  nonce_lifetime = 600

  tls {
    cert = "/etc/coturn/cert.pem"
    key  = "/etc/coturn/key.pem"
  }

  peers {
    allow = ["10.0.0.9/32", "83.166.64.45/32"]
    deny  = ["83.166.64.0/27", "83.166.64.32/29", "83.166.64.40/30", "83.166.64.44/32", "83.166.64.46/31", "83.166.64.48/28", "83.166.64.64/26", "83.166.64.128/25", "83.166.65.0/24"]
  }
}

endpoint "http" "metrics" {
  listen = "http://127.0.0.1:9641"
}

# What coturn did and mailturn does not do:
#   line 37, prometheus: anybody could read the metrics; here only this machine may: see listen and metrics_from of the endpoint
#   line 38, mobility: mobility (RFC 8016) is not offered
#   line 40, user: with a shared secret, coturn ignores its users, and mailturn would not: add them to users if they should have access
#   line 43, frobnicate: unknown directive

# Worth checking:
#   line 14, cert: coturn 4.17 has DTLS only with the directive dtls, and older ones unless it says no-dtls: if clients use it, add "dtls://*:5349" to listen
#   line 42, listening-port: the number is 3478: what follows is ignored, as in coturn before 4.13

# No line needed here:
#   line 2, listening-port: repeated in line 42, which applies
#   line 4, fingerprint: a response has FINGERPRINT if its request has one
#   line 5, lt-cred-mech: as mailturn does anyway
#   line 16, cipher-list: TLS 1.2 and 1.3 with the ciphers that Go considers safe
#   line 17, no-tlsv1: TLS 1.2 and 1.3 with the ciphers that Go considers safe
#   line 18, no-tlsv1_1: TLS 1.2 and 1.3 with the ciphers that Go considers safe
#   line 19, no-loopback-peers: loopback peers are refused by default
#   line 20, no-multicast-peers: multicast peers are refused by default
#   lines 21-23, denied-peer-ip: refused by default
#   line 28, total-quota: repeated in line 41, which applies
#   line 32, log-file: the log goes to standard error, and from there to systemd's journal: see log
#   line 33, simple-log: the log goes to standard error, and from there to systemd's journal: see log
#   line 34, syslog: the log goes to standard error, and from there to systemd's journal: see log
#   line 36, no-cli: there is no console
#   line 39, oauth: off, as by default
