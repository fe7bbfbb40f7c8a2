// Package acme tests certificates from a certificate authority, with a mailturn process, and in this process Pebble, Let's
// Encrypt's authority for tests of ACME clients.
package acme
