package pionturn

// UnmetRows returns the rows of this project's conformance table (T01 and so on) that do not hold for a Server, in order. Tests
// check that pion fails exactly these rows.
func UnmetRows() []string {
	return []string{
		"T03", // refreshing a permission while its allocation ends can panic
		"T06", // a message of 1600 bytes or more over TCP is dropped
		"T11", // DTLS is not supported
		"T12", // unknown user or wrong password: 400 instead of 401
		"T13", // error responses have neither MESSAGE-INTEGRITY nor a reason phrase
		"T14", // unknown comprehension-required attributes are accepted
		"T15", // attributes after MESSAGE-INTEGRITY are honored
		"T16", // FINGERPRINT is not verified
		"T17", // requests without an allocation are not answered
		"T18", // another user may change an allocation
		"T19", // another realm: 400
		"T20", // CreatePermission is not atomic, its errors have no code
		"T21", // a refused ChannelBind gets 401
		"T22", // a peer of the other family is accepted
		"T23", // REQUESTED-ADDRESS-FAMILY is ignored
		"T24", // ADDITIONAL-ADDRESS-FAMILY is ignored
		"T25", // REQUESTED-TRANSPORT TCP gets a UDP relay
		"T26", // EVEN-PORT reserves no port, tokens are ignored
		"T27", // DONT-FRAGMENT is not supported
		"T28", // LIFETIME is not clamped
		"T29", // channel numbers outside the range are accepted
		"T31", // permissions and channels are not limited
		"T32", // a nonce is valid for every client
		"T35", // a socket bound to all addresses answers from the one that the system chooses
		"T39", // a permission that is refreshed while it expires is lost
	}
}
