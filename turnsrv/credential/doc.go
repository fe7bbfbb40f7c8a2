// Package credential issues and verifies time-limited long-term TURN credentials.
//
// A credential is computed, never stored: the user name carries the second in which it expires, the password is
// base64(HMAC-SHA1(secret, user name)). Whoever shares the secret can issue one, and the relay can verify it without
// asking anybody. The scheme is draft-uberti-behave-turn-rest-00, which coturn calls use-auth-secret.
package credential
