// Package turntest provides what the tests of several packages of turnsrv share: an in-memory network, messages and
// certificates.
package turntest
