// Package e2e tests the built binary against real peers: openssl's s_client, coturn's TURN client, Dovecot, Delta Chat and
// others. It holds tests only.
//
// A peer that is not installed skips the tests that need it, and fails them when MAILTURN_E2E is set, as it is in CI.
package e2e
