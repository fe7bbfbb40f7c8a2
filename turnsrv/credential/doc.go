// Package credential issues and verifies time-limited long-term TURN credentials.
//
// Credentials are computed, never stored. The user name is the Unix time at which the credential expires, and the password is
// base64(HMAC-SHA1(secret, user name)). Anyone with the secret can issue credentials, and the relay can verify them without
// contacting the issuer. The scheme is draft-uberti-behave-turn-rest-00, which coturn calls use-auth-secret.
//
// Issuer issues credentials, and Accounts issues credentials that can be attributed to accounts. Verifier returns the keys that
// a request may be signed with. Users are static users without an expiry.
package credential
