// Package credential issues and verifies time-limited long-term TURN credentials.
//
// A credential is computed, never stored: its user name is the second in which it expires, and its password is
// base64(HMAC-SHA1(secret, user name)). Everybody who has the secret can issue credentials, and the relay can verify them without
// asking anybody. The scheme is draft-uberti-behave-turn-rest-00, which coturn calls use-auth-secret.
//
// Issuer issues credentials, and Accounts does so for accounts that can be told apart. Verifier returns what a request must be signed
// with. Users are static users, who have no expiry.
package credential
