// Package acme tests certificates from a certificate authority: a mailturn process, and Pebble, the authority that Let's Encrypt made
// for tests of ACME clients, in this process.
package acme
