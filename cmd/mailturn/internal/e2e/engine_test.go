package e2e

// engine is a TURN server that an endpoint "turn" may have.
type engine struct {
	name    string
	lines   string // of its endpoint
	dtls    bool
	refused string   // its answer to an invalid credential
	uclient []string // options that turnutils_uclient needs for it

	// What turnutils_uclient prints for an invalid credential, for a peer at an address that is refused, and for one at an address
	// where only other relayed addresses may be reached.
	saysCredential, saysPeer, saysPort string
}

var (
	mailturnEngine = engine{
		name: "mailturn", lines: `drain_timeout = "1s"`, dtls: true, refused: "401",
		saysCredential: "Cannot complete Allocation", saysPeer: "error 403", saysPort: "error 403",
	}
	// pion answers 400 to a wrong password (T12), refuses a channel with 401 (T21) without logging ports, and reserves no port
	// for RTCP (T26).
	pionEngine = engine{
		name: "pion", lines: `engine = "pion"`, refused: "400", uclient: []string{"-c"}, saysCredential: "error 400", saysPeer: "error 401",
	}
)

// engines are what the relay is tested with.
var engines = []engine{mailturnEngine, pionEngine}

// transports are those over which clients reach the engine.
func (e engine) transports() []transport {
	if e.dtls {
		return transports
	}
	return transports[:3]
}
