package coturn

// reason is why a directive is not translated.
type reason struct {
	text string
	// needless means that mailturn does the same without the directive, or that it has no meaning here.
	needless bool
	// flag is for a directive that is on or off, and needs no remark when it is off.
	flag bool
}

// off is the remark about a directive that the file switches off.
const off = "off, as by default"

func needless(text string) reason { return reason{text: text, needless: true} }
func missing(text string) reason  { return reason{text: text} }

// switched is for a directive that is missing here when it is on.
func switched(text string) reason {
	return reason{text: text, flag: true}
}

const (
	inDatabase   = "users and secrets are in the configuration, or in a file: see users, users_file and secret"
	behavior     = "NAT behavior discovery (RFC 5780) is not offered; calls do not use it"
	redirection  = "clients are redirected only while the relay drains, to the relay blocks of the endpoint that issues credentials; give the server's name several addresses instead"
	byAddress    = "name the address in listen, relay_ip or relay_bind instead of the device"
	threads      = "mailturn uses all available CPUs"
	ciphers      = "TLS 1.2 and 1.3 with the ciphers that Go considers safe"
	logs         = "the log goes to standard error, and from there to systemd's journal: see log"
	console      = "use mailturn ctl, and the page of an endpoint \"http\", instead of the console and its web page"
	process      = "mailturn stays in the foreground under the user that starts it; the service manager does the rest"
	multiplexing = "every call has its own relay sockets"
	anonymous    = "nobody is served without credentials"
	limited      = "limited by default: see unauthenticated_rate and max_guesses"
	stateless    = "nonces are always stateless, with a key that is generated at startup"
	batches      = "mailturn batches automatically"
	software     = "SOFTWARE is omitted by default: see software"
	commandLine  = "it is for the command line"
	classic      = "clients of RFC 3489, whose requests have no magic cookie, are not served"
	mappedToo    = "Binding responses have XOR-MAPPED-ADDRESS and no MAPPED-ADDRESS, and clients of RFC 3489 are not served"
	noHTTP       = "HTTP on a TURN port gets no answer"
	bindings     = "Binding requests are answered without credentials, at a limited rate: see unauthenticated_rate"
)

// reasons has the directives that translations does not have, by their names in every coturn from 4.5 to 4.17.
var reasons = map[string]reason{
	"no-loopback-peers":                 needless("loopback peers are refused by default"),
	"no-multicast-peers":                needless("multicast peers are refused by default"),
	"fingerprint":                       needless("a response has FINGERPRINT if its request has one"),
	"no-software-attribute":             needless(software),
	"prod":                              needless(software),
	"software-attribute":                needless(software),
	"no-tcp-relay":                      needless("TCP relays (RFC 6062) are never made"),
	"no-cli":                            needless("there is no console"),
	"no-rfc5780":                        needless("NAT behavior discovery (RFC 5780) is not offered"),
	"rfc5780":                           switched(behavior),
	"drop-invalid-packets":              needless("packets that are neither STUN nor ChannelData are always dropped"),
	"drop-invalid-packets-log":          needless("dropped packets are counted, not logged"),
	"max-allocate-timeout":              needless("unauthenticated requests keep no state"),
	"unauthorized-ratelimit":            needless(limited),
	"unauthorized-ratelimit-rps":        needless(limited),
	"stateless-nonce":                   needless(stateless),
	"stateless-nonce-secret":            needless(stateless),
	"no-auth-pings":                     needless(inDatabase),
	"no-dynamic-ip-list":                needless(inDatabase),
	"no-dynamic-realms":                 needless(inDatabase),
	"no-tlsv1":                          needless(ciphers),
	"no-tlsv1_1":                        needless(ciphers),
	"no-sslv2":                          needless(ciphers),
	"no-sslv3":                          needless(ciphers),
	"include-reason-string":             needless("error responses have a reason phrase unless it would make the answer to a stranger too large"),
	"udp-recvmmsg":                      needless(batches),
	"udp-recvmmsg-log":                  needless(batches),
	"udp-gso":                           needless(batches),
	"sock-buf-size":                     needless("mailturn asks for a receive buffer of 4 MiB for each UDP port that it listens on: see net.core.rmem_max"),
	"relay-threads":                     needless(threads),
	"cpus":                              needless(threads),
	"ne":                                needless(threads),
	"udp-self-balance":                  needless(threads),
	"daemon":                            needless(process),
	"pidfile":                           needless(process),
	"proc-user":                         needless(process),
	"proc-group":                        needless(process),
	"do-not-use-config-file":            needless(process),
	"version":                           needless(commandLine),
	"help":                              needless(commandLine),
	"log-file":                          needless(logs),
	"no-stdout-log":                     needless(logs),
	"syslog":                            needless(logs),
	"syslog-facility":                   needless(logs),
	"simple-log":                        needless(logs),
	"log-min-level":                     needless(logs),
	"new-log-timestamp":                 needless(logs),
	"new-log-timestamp-format":          needless(logs),
	"log-binding":                       needless(logs),
	"dh566":                             needless(ciphers),
	"dh1066":                            needless(ciphers),
	"dh2066":                            needless(ciphers),
	"dh-file":                           needless(ciphers),
	"ec-curve-name":                     needless(ciphers),
	"cipher-list":                       needless(ciphers),
	"secret-key-file":                   needless("it decrypts the password of a database"),
	"cli-max-output-sessions":           needless(console),
	"web-admin-listen-on-workers":       needless(console),
	"stun-backward-compatibility":       switched(mappedToo),
	"rfc3489-compatibility":             switched(classic),
	"rfc5766-channel-numbers":           needless("channel numbers up to 0x7FFF are accepted"),
	"multiplex-peer":                    switched(multiplexing),
	"multiplex-peer-port":               missing(multiplexing),
	"multiplex-peer-max-peers":          missing(multiplexing),
	"drain-min-allocations":             missing("draining ends when all calls have ended, or after drain_timeout"),
	"respond-http-unsupported":          switched(noHTTP),
	"acme-redirect":                     missing(noHTTP + ": let the web server do it"),
	"listening-device":                  missing(byAddress),
	"relay-device":                      missing(byAddress),
	"alt-listening-port":                missing(behavior),
	"alt-tls-listening-port":            missing(behavior),
	"aux-server":                        missing("add the address to listen"),
	"tcp-proxy-port":                    missing("the PROXY protocol is accepted on the ordinary ports, from the networks in proxy_protocol only"),
	"no-auth":                           switched(anonymous),
	"no-udp-relay":                      switched("mailturn relays UDP only"),
	"userdb":                            missing(inDatabase),
	"db":                                missing(inDatabase),
	"psql-userdb":                       missing(inDatabase),
	"sql-userdb":                        missing(inDatabase),
	"mysql-userdb":                      missing(inDatabase),
	"mongo-userdb":                      missing(inDatabase),
	"redis-userdb":                      missing(inDatabase),
	"prometheus-tls":                    switched("https:// in listen of the endpoint \"http\" serves metrics over TLS"),
	"prometheus-cert":                   missing("https:// in listen of the endpoint \"http\" serves metrics over TLS"),
	"prometheus-key":                    missing("https:// in listen of the endpoint \"http\" serves metrics over TLS"),
	"udp-sendmmsg-log":                  needless(batches),
	"redis-statsdb":                     missing("events do not go to Redis; metrics are at /metrics of an endpoint \"http\""),
	"prometheus-username-labels":        switched("metrics contain no user names"),
	"server-name":                       needless("it is for OAuth (RFC 7635), which is not offered"),
	"oauth":                             switched("OAuth (RFC 7635) is not offered"),
	"check-origin-consistency":          switched("ORIGIN chooses the realm, see user_realm, and may change between the requests of a client"),
	"secure-stun":                       switched(bindings),
	"stun-only":                         switched("mailturn always relays"),
	"no-stun":                           switched(bindings),
	"mobility":                          switched("mobility (RFC 8016) is not offered"),
	"server-relay":                      switched("permissions are always checked (RFC 8656 section 9)"),
	"raw-public-keys":                   switched("raw public keys (RFC 7250) are not offered"),
	"pkey-pwd":                          missing("the key must be readable without a password"),
	"CA-file":                           missing("client certificates are ignored"),
	"tlsv1":                             switched(ciphers),
	"tlsv1_1":                           switched(ciphers),
	"no-tlsv1_2":                        switched(ciphers),
	"alternate-server":                  missing(redirection),
	"tls-alternate-server":              missing(redirection),
	"udp-alternate-server":              missing(redirection),
	"tcp-alternate-server":              missing(redirection),
	"secret-ts-exp-time":                missing("secrets are in the configuration: list the new one first, and the old one until its credentials have expired"),
	"cli":                               switched(console),
	"cli-ip":                            missing(console),
	"cli-port":                          missing(console),
	"cli-password":                      missing(console),
	"web-admin":                         switched(console),
	"web-admin-ip":                      missing(console),
	"web-admin-port":                    missing(console),
	"no-stun-backward-compatibility":    needless(mappedToo),
	"response-origin-only-with-rfc5780": needless("RESPONSE-ORIGIN is not sent"),
}
