// Package turntest is what the tests of several packages of turnsrv need: a network in memory, messages and certificates.
package turntest
