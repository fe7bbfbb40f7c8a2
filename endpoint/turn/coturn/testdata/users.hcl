endpoint "turn" "turn" {
  listen = ["udp://198.51.100.7:443", "udp://[2001:db8::7]:443"]
  realm  = "example.org"
  users = {
    alice = "correct horse:battery"
    bob   = "ha1:bc807ee29df3c9ffa736523fb2c4e8ee"
  }
  relay_ip       = ["198.51.100.7", "2001:db8::7"]
  relay_ports    = "49152-65535"
  default_family = "client"
  max_lifetime   = 1800

  peers {
    allow = ["127.0.0.0/8", "::1/128"]
  }
}

# Not translated: set it here, or fix it there and import again:
#   line 13, user: the user name begins or ends with a ten-digit number and could be mistaken for an issued user name: add a letter to the number
#   line 14, user: the password is empty

# What coturn did and mailturn does not do:
#   line 5, relay-ip: mailturn relays from one address of each family: run another mailturn for this one
#   line 7, tls-listening-port: there is no certificate; coturn does not listen there either
#   line 11, user: coturn does not limit a user's allocations; here 40 at a time is the default: raise user_quota, or set it to 0, if many people share a user
#   line 17, stale-nonce: a nonce that never expires: mailturn has nonce_lifetime, an hour by default
#   line 19, permission-lifetime: it is always 300 (RFC 8656 section 9)
#   line 22, allowed-peer-ip: an IPv4-mapped IPv6 address is never relayed to: allow the IPv4 address itself

# No line needed here:
#   line 9, lt-cred-mech: as mailturn does anyway
#   line 18, channel-lifetime: as RFC 8656 section 12 has it
#   line 20, rest-api-separator: as the TURN REST API has it
