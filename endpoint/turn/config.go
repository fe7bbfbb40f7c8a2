package turn

import (
	"net/netip"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/endpoint/turn/publicip"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/handoff"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// Ports that a TURN endpoint without addresses listens on (RFC 8656 section 3.1 names them).
const (
	DefaultPort    = 3478
	DefaultTLSPort = 5349
)

// Schema is the body of an endpoint "turn" block. `mailturn reference` prints the documentation in its tags.
type Schema struct {
	Listen        config.Value[[]listen.Addr]       `hcl:"listen" otherwise:"udp and tcp on 3478, tls and dtls on 5349 if there is a certificate, and the port that an IMAP endpoint advertises" reload:"restart" doc:"Listening addresses: udp://HOST:PORT, dtls://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT. udp:// and dtls:// with the same address share one socket, and so do tcp:// and tls://."`
	Engine        EngineName                        `hcl:"engine" default:"mailturn" reload:"restart" doc:"Which TURN server serves the endpoint. \"mailturn\" is this project's own. \"pion\" is the unmodified pion/turn v4, with the same credentials, peers, relayed addresses and quotas of allocations, in its own process: for comparing the two when a client fails. It implements less of the RFCs, as the log says at startup, and has fewer limits: an attribute that it cannot honor is an error. It serves no DTLS, no new allocation takes the place of an idle one, and a reload that changes the endpoint ends its calls."`
	ProxyProtocol config.Value[[]netip.Prefix]      `hcl:"proxy_protocol" reload:"restart" doc:"Networks of proxies whose TCP connections (plain or TLS) begin with a PROXY protocol header, version 1 or 2. Quotas, limits and XOR-MAPPED-ADDRESS use the client address in it; connections from there without a header are closed. From anywhere else, no header is accepted."`
	TLS           []config.TLS                      `hcl:"tls,block" doc:"Certificates. With several, the client's server name chooses; the first is for clients that send none. Default: the top-level certificate, else a self-signed one if listen has a tls:// or dtls:// address."`
	Realm         config.Value[string]              `hcl:"realm" otherwise:"hostname" reload:"restart" doc:"Realm of the long-term credentials (RFC 8489 section 9.2). Issued credentials are valid in it and in each user_realm."`
	Secret        config.Value[[]credential.Secret] `hcl:"secret" secret:"true" otherwise:"generated, kept in state_dir" doc:"Shared secret from which passwords are derived: a string, file(PATH), env(NAME), or a list of them. The first one issues, all are accepted."`
	Users         config.Value[map[string]string]   `hcl:"users" secret:"true" doc:"Static users in addition to issued credentials, name = password. The password is plain text, or ha1: followed by the key in hexadecimal, MD5(NAME:REALM:PASSWORD), as turnadmin -k prints it."`
	UsersFile     config.Value[string]              `hcl:"users_file" type:"file" doc:"The same in a file, one NAME:PASSWORD or NAME:ha1:KEY per line. A reload reads it again."`
	UserRealms    []UserRealmSchema                 `hcl:"user_realm,block" doc:"Static users of another realm than the endpoint's. A client is told this realm if it uses one of its names: as the TLS server name, or as the host in the ORIGIN attribute, which turnutils_uclient -o sends and coturn uses. Every other client is told the endpoint's realm, including browsers over UDP. Users with a known password are accepted in either realm; those with ha1: keys only in their own."`
	RelayIP       config.Value[[]RelayIP]           `hcl:"relay_ip" type:"IP address" otherwise:"the listening address, else \"auto\"" reload:"restart" doc:"Public IP address of the relay, as peers see it; a list may contain one IPv4 and one IPv6 address. \"auto\" finds them, as relay_ip_from says, and finds them again when the addresses of this machine change: new calls then use the new ones."`
	RelayIPFrom   config.Value[[]publicip.Source]   `hcl:"relay_ip_from" type:"list of strings" otherwise:"[\"interface\"]" reload:"restart" doc:"Where relay_ip = \"auto\" looks. The first good address of each family counts. \"interface\": from which addresses this machine sends to the internet; no temporary IPv6 address if there is another. \"dns\": the addresses of hostname in the DNS; \"dns:NAME\": of another name. \"stun:HOST\" or \"stun:HOST:PORT\": what that STUN server sees. \"metadata\": what the cloud's metadata service says (169.254.169.254). All but \"interface\" are also asked every 5 minutes."`
	RelayBind     config.Value[[]netip.Addr]        `hcl:"relay_bind" otherwise:"relay_ip if it is an address of this machine, else all addresses" reload:"restart" doc:"Address that relay sockets are bound to, if it differs from relay_ip, as behind NAT."`
	Settings
}

// Settings are the attributes that need only a declaration here, and the code that uses them.
type Settings struct {
	RelayPorts    config.Value[PortRange] `hcl:"relay_ports" default:"49152-65535" reload:"restart" doc:"Range of UDP ports for relayed transport addresses, MIN-MAX."`
	DefaultFamily Family                  `hcl:"default_family" default:"prefer-ipv4" reload:"restart" doc:"Family of the relayed address for clients that request none (REQUESTED-ADDRESS-FAMILY), such as browsers. \"prefer-ipv4\": IPv4, as RFC 8656 section 7.2 says, but IPv6 on a relay that has only that. \"ipv4\": strictly as in the RFC, 440 on such a relay. \"client\": the client's own family if the relay has it; clients in IPv6-only networks then cannot reach IPv4 peers."`

	// The default is generous for a person: two devices, each with three networks of both families, and with three URIs of
	// which each makes an allocation, have 36. It is small for a thief, who gets a 250th of total_quota.
	UserQuota   int `hcl:"user_quota" default:"40" min:"0" doc:"Allocations that one user may have at a time; one with addresses of both families counts twice; 0 is no limit. In a cluster, those on all relays count. 40 is enough for a person with several devices, each of which allocates on every network and over every transport. The user is a static user of a realm, the account to which an endpoint of this file issued the credential, or else the name next to the time stamp in the user name. At the limit, a new allocation replaces the one that has been silent longest, if that has relayed nothing for a minute, or if its client has sent nothing for 10 seconds and has another address. Otherwise it is refused with 486 Allocation Quota Reached, unless the client may just have changed its network: see docs/operating.md. A credential without a name that was issued elsewhere may belong to several people: each address (IPv6: /64) may have this many with it, and all addresses together ten times as many."`
	SourceQuota int `hcl:"source_quota" default:"0" min:"0" doc:"Allocations that one address (IPv6: /64) may have at a time, for all users together; 0 is no limit. Beyond it: 486 Allocation Quota Reached."`
	TotalQuota  int `hcl:"total_quota" default:"10000" min:"0" doc:"Allocations that the server has at a time. Beyond it: 486 Allocation Quota Reached."`

	UserCalls       int   `hcl:"user_calls" default:"0" min:"0" doc:"Calls that one user may have at a time; 0 is no limit. The user is that of user_quota. In a cluster, the calls on all relays count. Each allocation whose client sends anything but the checks of ICE, of which it may send 10 per second after the first 500, is a call: of the many that a client makes, the one that carries the call. The call ends when the client has sent nothing but checks for 10 seconds. A further one is relayed for 15 seconds, because the call may have moved to it from another network. Then its packets are dropped while the others go on, and requests for permissions and channels get 508 Insufficient Capacity."`
	UserBytesPerDay int64 `hcl:"user_bytes_per_day" default:"0" min:"0" doc:"Bytes of payload that all allocations of one user together relay in a day, in both directions together, so what the user's peers send counts, too; 0 is no limit. The user is that of user_quota, and the day that of UTC. Within a second or two after the limit was reached, those allocations of the user that relay end, and until the day is over, further ones are refused with 486 Allocation Quota Reached. All endpoints of the file count together. The count is kept in memory: it begins at 0 after a restart, unless the control block has usage."`

	MaxBPS   int64 `hcl:"max_bps" default:"0" min:"0" doc:"Bits per second (coturn's max-bps: bytes) that one allocation relays in each direction, including IP and UDP headers, in bursts of up to one second's worth; 0 is no limit. Packets beyond it are dropped."`
	TotalBPS int64 `hcl:"total_bps" default:"0" min:"0" doc:"Bits per second (coturn's bps-capacity: bytes) that all allocations together relay in each direction, including IP and UDP headers; 0 is no limit. Packets beyond it are dropped, first those of allocations that use more than an equal share."`
	MaxPPS   int64 `hcl:"max_pps" default:"20000" min:"0" doc:"Packets per second that one allocation relays in each direction, in bursts of up to one second's worth; 0 is no limit. Packets beyond it are dropped. A call takes 50 to 1000."`
	UserPPS  int64 `hcl:"user_pps" default:"40000" min:"0" doc:"The same for all allocations of one user together, as user_quota counts them."`

	MaxConnections int  `hcl:"max_connections" default:"10000" min:"1" reload:"restart" doc:"Maximum number of TCP and TLS connections per listening address, and of DTLS associations per socket. A further one replaces the oldest one without an allocation, from the network (IPv4 /24, IPv6 /48) that has the most."`
	MaxPermissions int  `hcl:"max_permissions" default:"128" min:"1" max:"16384" doc:"Maximum number of peer addresses that one allocation may send to at a time. Beyond it: 508 Insufficient Capacity."`
	MaxChannels    int  `hcl:"max_channels" default:"128" min:"1" max:"16384" doc:"Channels that one allocation may have at a time. Beyond it: 508 Insufficient Capacity."`
	StrictChannels bool `hcl:"strict_channels" default:"false" reload:"restart" doc:"Refuse channel numbers above 0x4FFF, where RFC 8656 section 12 ends the range. Clients that follow RFC 5766 use numbers up to 0x7FFF."`

	Workers    int           `hcl:"workers" default:"0" min:"0" max:"1024" reload:"restart" doc:"Number of event loops that relay packets (Linux). Each has its own socket for each UDP address, and the system distributes the clients among them. They share a thread while they have little to do, and have a thread each under load. 0 is one for each processor."`
	Gather     time.Duration `hcl:"gather" default:"250us" min:"0s" max:"1ms" reload:"restart" doc:"How long a worker under load waits for more packets after it has relayed those that have arrived. This saves CPU time, and delays packets by at most this much. 0 never waits."`
	UDPSegment bool          `hcl:"udp_segment" default:"true" reload:"restart" doc:"Send several packets to one destination as one (UDP_SEGMENT), where the system can."`
	UDPGRO     bool          `hcl:"udp_gro" default:"true" reload:"restart" doc:"Receive several packets from one source as one (UDP_GRO), where the system can."`

	KernelPath KernelPath `hcl:"kernel_path" default:"auto" reload:"restart" doc:"Have the kernel relay the packets of bound channels between UDP clients and peers of the same address family (Linux 5.15 and later, amd64 and arm64), which takes a fraction of the CPU time. It requires CAP_BPF and CAP_NET_ADMIN: see docs/kernel-path.md. These packets pass no rules of nftables and iptables. \"auto\": if it is possible; otherwise the log says why not, and nothing else changes. \"on\": mailturn does not start without it. \"off\": never. While it is in use, udp_gro has no effect."`

	UnauthenticatedRate   int                         `hcl:"unauthenticated_rate" default:"500" min:"0" reload:"restart" doc:"UDP requests per second without valid credentials (including Binding requests) that are answered per network (IPv4 /24, IPv6 /48) and socket, in bursts of up to twice as many; 0 is no limit. Further requests get no answer, so that the server cannot be used to flood others."`
	MaxGuesses            int                         `hcl:"max_guesses" default:"100" min:"0" reload:"restart" doc:"Wrong passwords from one address (IPv6: /64) that are answered at once, and then one per second; 0 is no limit. Further ones get no answer, for up to 5 minutes. Correct ones are always served."`
	LogGuesses            bool                        `hcl:"log_guesses" default:"false" reload:"restart" doc:"Log each wrong password and each unknown user that is answered, with the client's address, at level warn: for fail2ban, with the filter in dist. max_guesses limits the lines per address."`
	MaxLifetime           config.Value[time.Duration] `hcl:"max_lifetime" default:"1h" min:"10s" max:"24h" reload:"restart" doc:"Longest lifetime of an allocation that a client can request (RFC 8656 section 7.2). If below 10m, also the lifetime for clients that request none."`
	NonceLifetime         config.Value[time.Duration] `hcl:"nonce_lifetime" default:"1h" reload:"restart" doc:"How long a nonce is accepted (RFC 8489 section 9.2), like coturn's stale-nonce. Clients renew it automatically, except for werift 0.25, whose calls pause for seconds or end when the nonce expires."`
	Software              config.Value[string]        `hcl:"software" otherwise:"none" reload:"restart" doc:"Text of the SOFTWARE attribute in answers to authenticated requests. By default there is none, because it helps attackers find versions with known vulnerabilities."`
	ExpiredGrace          time.Duration               `hcl:"expired_grace" default:"24h" doc:"How long a running call may refresh its allocation after its credential has expired, or its static user or secret was removed from the configuration."`
	MaxCredentialLifetime config.Value[time.Duration] `hcl:"max_credential_lifetime" default:"8784h" doc:"How far in the future a credential may expire, 366 days by default; 0 is no limit. One that expires later is refused, since whoever steals it could use the relay forever."`
	DrainTimeout          time.Duration               `hcl:"drain_timeout" default:"0s" doc:"How long running calls may continue after the server is told to stop. Meanwhile, new allocations are refused, and mail is served. By default, calls end immediately."`
	Peers                 PeersSchema                 `hcl:"peers,block" doc:"Where the relay may send to."`
}

// PeersSchema is the body of the peers block.
type PeersSchema struct {
	config.Block
	Allow       config.Value[[]netip.Prefix] `hcl:"allow" doc:"Networks to relay to although they are refused by default (private, loopback, link-local and other special addresses, and those that a NAT64 of this network translates). This machine's own addresses in them stay refused unless one is listed by itself (192.168.1.5/32) or the network is part of 127.0.0.0/8."`
	SilentBytes int                          `hcl:"silent_bytes" default:"65536" min:"0" reload:"restart" doc:"Bytes that a call may send in 10 seconds to a peer address that has never answered; 0 is no limit. A call may send 8 times as much to all such addresses together; all calls together may send 4 times as much to one of them (IPv6: /64), and 16 times as much to one network (IPv4 /24, IPv6 /48). Calls begin with checks that are answered, and need far less until then."`
	Deny        []netip.Prefix               `hcl:"deny" doc:"Networks never to relay to. A network in both lists is refused."`
}

// UserRealmSchema is the body of a user_realm block.
type UserRealmSchema struct {
	config.Block
	Realm     config.Value[string]            `hcl:"realm,label" reload:"restart"`
	Names     config.Value[[]string]          `hcl:"names" otherwise:"the realm itself" reload:"restart" doc:"Names by which clients of this realm reach the server, such as turn.example.net."`
	Users     config.Value[map[string]string] `hcl:"users" secret:"true" doc:"Users of the realm, name = password, as in the endpoint."`
	UsersFile config.Value[string]            `hcl:"users_file" type:"file" doc:"The same in a file."`
}

// Config is an endpoint "turn" block as plain values.
type Config struct {
	Name  string
	Range hcl.Range

	// Engine is the engine of the endpoint. New supports Mailturn; for Pion see package endpoint/turn/pion.
	Engine EngineName

	// Listen holds addresses with the schemes udp, dtls, tcp and tls.
	Listen []listen.Addr
	// ListenRanges are the place of each address, or that of the block's header.
	ListenRanges []hcl.Range
	// ListenSet is false if the addresses are the defaults, to which ports that an IMAP endpoint advertises are added.
	ListenSet bool
	// ProxyProtocol are the networks of proxies whose streams begin with a PROXY header.
	ProxyProtocol listen.Networks
	// TLS are the certificates, the first for clients that name none. If it is empty and NeedsCertificate returns true, the caller
	// puts a self-signed one here before New.
	TLS []certs.Pair

	Realm      string
	RealmRange hcl.Range
	// Secrets are the shared secrets, the issuing one first. If it is empty, the caller puts the secret in the state directory here
	// before New: see StoredSecret.
	Secrets     []credential.Secret
	SecretRange hcl.Range // zero when the file has none
	// Ring has further secrets that are accepted, which change while the endpoint runs. The caller puts it here; nil has none.
	Ring *credential.Ring

	// Users are static users with their passwords, in the form of credential.Users.Add.
	Users map[string]credential.Secret
	// UserRealms are further realms with static users.
	UserRealms []UserRealm
	// StateDir is where the endpoint keeps the file of relayed ports in use. The caller sets it; without one there is no file.
	StateDir string
	// Accounts records to whom the other endpoints of this process have issued credentials. The caller sets it; nil has no records.
	Accounts *credential.Accounts
	// Alternates are the relays to which clients are sent during a drain. The caller puts them here; nil has none.
	Alternates *issuer.Alternates
	// Bans are who may make no allocations. The caller puts them here; nil bans nobody.
	Bans *ban.List
	// Meter and Holdings are as turnsrv.Config says. The caller puts them here, or nil.
	Meter    usage.Meter
	Holdings usage.Holdings
	// OnEvent, if not nil, is called as turnsrv.Config says. The caller sets it.
	OnEvent func(event.Event)
	// Sockets are the listening sockets that another process has passed, and are passed on. The caller puts them here, or nil.
	Sockets *handoff.Sockets
	// Shared are the ports that other endpoints use, too. The caller sets it.
	Shared shared.Ports
	// Successor makes the endpoint do nothing between Start and Begin, so that it can take over the calls of another process.
	Successor bool

	// RelayIP are the configured addresses. If it is empty, the listening address counts, unless RelayIPAuto is set.
	RelayIP     []netip.Addr
	RelayIPAuto bool
	// RelayIPFrom is where the addresses are found, or empty for this machine's interfaces.
	RelayIPFrom []publicip.Source
	// Hostname is that of the file, empty if it has none.
	Hostname  string
	RelayBind []netip.Addr

	Settings
	// MaxStreams is max_connections, which the caller may lower to what the process can open. A reload does not change it.
	MaxStreams int
}

// Defaults are values of the top level for attributes that an endpoint leaves out.
type Defaults struct {
	Hostname string       // empty when the file has none
	TLS      []certs.Pair // the top level's certificate
}

// Decode checks the block and returns its plain values. It opens no socket; it reads the certificates and the users file.
func Decode(endpoint config.Endpoint, defaults Defaults) (Config, hcl.Diagnostics) {
	s := Schema{Realm: config.Value[string]{V: defaults.Hostname, Range: endpoint.Range}}
	diags := endpoint.Decode(&s)
	c := Config{
		Name: endpoint.Name, Range: endpoint.Range, Engine: s.Engine,
		Realm: s.Realm.V, RealmRange: s.Realm.Range,
		Secrets: s.Secret.V, SecretRange: s.Secret.Range,
		RelayBind: s.RelayBind.V, Hostname: defaults.Hostname,
		Settings: s.Settings, MaxStreams: s.MaxConnections,
	}
	pairs, tlsDiags := certs.DecodeAll(s.TLS, defaults.TLS)
	c.TLS, diags = pairs, append(diags, tlsDiags...)
	diags = append(diags, c.decodeListen(s.Listen)...)
	if s.Realm.Set || !diags.HasErrors() { // else a misspelt realm would also be reported as empty
		diags = append(diags, checkRealm(s.Realm)...)
	}
	diags = append(diags, issuer.CheckSecrets(s.Secret)...)
	users, userDiags := decodeUsers(c.Realm, s.Users, s.UsersFile)
	c.Users, diags = users, append(diags, userDiags...)
	diags = append(diags, c.decodeUserRealms(s.UserRealms)...)
	diags = append(diags, checkLifetimes(s.MaxLifetime, s.NonceLifetime)...)
	diags = append(diags, checkCredentialLifetime(s.MaxCredentialLifetime)...)
	diags = append(diags, checkSoftware(s.Software)...)
	proxies, proxyDiags := listen.DecodeProxies(s.ProxyProtocol)
	c.ProxyProtocol, diags = proxies, append(diags, proxyDiags...)
	diags = append(diags, c.decodeRelayIP(s.RelayIP, s.RelayIPFrom)...)
	diags = append(diags, checkRelayAddrs(s.RelayBind, "relay_bind")...)
	if c.Engine == Pion {
		diags = append(diags, checkPion(endpoint, s)...)
	}
	return c, append(diags, c.checkPeers()...)
}
