package turn

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	secret = "a secret of the benchmark, 32 bytes"
	realm  = "example.org"
)

// Names of servers in the report.
const (
	mailturnName = "mailturn"
	coturnName   = "coturn"
	pionName     = "pion"
)

// Lines of mailturn's endpoint.
const (
	kernelPathOn  = `kernel_path = "on"`
	kernelPathOff = `kernel_path = "off"`
)

// A kind is a program to measure, with its settings.
type kind struct {
	name string
	// command returns the command that serves at an address. dir is for its files.
	command func(dir string, at address) ([]string, error)
	host    netip.Addr
	cpu     *int // the only processor that it may use; nil means any
	dtls    bool // whether it serves DTLS
	// forwards is whether the program only forwards packets, without TURN: see floor.go.
	forwards bool
}

// address is the address of a server.
type address struct {
	host netip.Addr
	port uint16 // UDP and TCP
	tls  uint16 // TLS, and DTLS if there is any
	dtls bool
}

func (a address) plain() netip.AddrPort  { return netip.AddrPortFrom(a.host, a.port) }
func (a address) secure() netip.AddrPort { return netip.AddrPortFrom(a.host, a.tls) }

// withDTLS returns those of the kinds that can serve DTLS, and makes them do so.
func withDTLS(kinds []kind) []kind {
	kinds = slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.name == pionName })
	for i := range kinds {
		kinds[i].dtls = true
	}
	return kinds
}

// A variant is mailturn with additional lines in its endpoint.
type variant struct{ name, lines string }

// variantsFlag implements the flag -variant.
type variantsFlag []variant

func (v *variantsFlag) String() string { return "" }

func (v *variantsFlag) Set(text string) error {
	name, lines, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return fmt.Errorf("want NAME=LINES")
	}
	*v = append(*v, variant{name, strings.ReplaceAll(lines, ";", "\n  ")})
	return nil
}

// kinds returns the servers to measure.
func (b *bench) kinds(ctx context.Context, variants []variant) ([]kind, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	kinds := []kind{{name: mailturnName, command: b.mailturn(mailturnName, b.builds[0], "")}}
	for _, v := range append([]variant{{gatheringOff, `gather = "0s"`}}, variants...) {
		kinds = append(kinds, kind{name: v.name, command: b.mailturn(v.name, b.builds[0], v.lines)})
	}
	for _, other := range b.builds[1:] {
		name := filepath.Base(other)
		kinds = append(kinds, kind{name: name, command: b.mailturn(name, other, "")})
	}
	kinds = append(kinds, kind{name: coturnName, command: b.coturn("turnserver")})
	if newer := b.options.coturn; newer != "" {
		newerKinds, err := b.newerCoturn(ctx, newer)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, newerKinds...)
	}
	kinds = append(kinds, kind{name: pionName, command: func(_ string, at address) ([]string, error) {
		return []string{self, "pion", at.plain().String(), at.secure().String(), b.certs.cert, b.certs.key, b.network.all().String()}, nil
	}})
	floors, err := b.floors(ctx)
	if err != nil {
		return nil, err
	}
	kinds = append(kinds, floors...)
	if len(kinds) > maxServers {
		return nil, fmt.Errorf("%d servers: want at most %d", len(kinds), maxServers)
	}
	for i := range kinds {
		kinds[i].host = b.network.server(i)
	}
	if wanted := split(b.options.only); len(wanted) > 0 {
		for _, name := range wanted {
			if !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == name }) {
				return nil, fmt.Errorf("there is no server %q to measure", name)
			}
		}
		kinds = slices.DeleteFunc(kinds, func(k kind) bool { return !slices.Contains(wanted, k.name) })
	}
	return kinds, nil
}

// mailturn returns the command of a build of mailturn without the kernel path, with lines in its endpoint.
func (b *bench) mailturn(name, binary, lines string) func(string, address) ([]string, error) {
	return b.mailturnAt(name, binary, roomy+"\n  "+kernelPathOff+"\n  "+lines)
}

// mailturnAt is like mailturn, with a total_quota among the lines. Each of the other hosts has its own endpoint, at the same ports.
func (b *bench) mailturnAt(name, binary, lines string, others ...netip.Addr) func(string, address) ([]string, error) {
	return func(dir string, at address) ([]string, error) {
		base := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		text := fmt.Sprintf(mailturnConfiguration, b.certs.cert, b.certs.key)
		for _, host := range append([]netip.Addr{at.host}, others...) {
			at.host = host
			listen := fmt.Sprintf(`"udp://%v", "tcp://%v", "tls://%v"`, at.plain(), at.plain(), at.secure())
			if at.dtls {
				listen += fmt.Sprintf(`, "dtls://%v"`, at.secure())
			}
			text += fmt.Sprintf(mailturnEndpoint, host, listen, realm, secret, host, host, b.network.all(), lines)
		}
		return []string{binary, "run", "--state-dir", base + ".state", "--config", base + ".conf"},
			os.WriteFile(base+".conf", []byte(text), 0o600)
	}
}

// roomy are limits above what is measured. With higher ones, a server would lower them where a process may have 20,000 descriptors.
const roomy = `total_quota = 15500
  max_connections = 1000`

const mailturnConfiguration = `
hostname = "localhost"
tls {
  cert = %q
  key  = %q
}
`

const mailturnEndpoint = `
endpoint "turn" "%v" {
  listen        = [%s]
  realm         = %q
  secret        = %q
  relay_ip      = "%v"
  relay_bind    = "%v"
  user_quota    = 0
  max_pps       = 0
  user_pps      = 0
  drain_timeout = "0s"
  peers {
    allow = ["%v"]
  }
  %s
}
`

// coturn returns the command of a build of coturn, with more arguments.
func (b *bench) coturn(program string, more ...string) func(string, address) ([]string, error) {
	return func(dir string, at address) ([]string, error) {
		base := filepath.Join(dir, "turnserver-"+at.host.String())
		words := append([]string{
			program, "-n", "--listening-ip", at.host.String(), "--listening-port", fmt.Sprint(at.port), "--tls-listening-port", fmt.Sprint(at.tls),
			"--relay-ip", at.host.String(), "--realm", realm, "--use-auth-secret", "--static-auth-secret", secret,
			"--allow-loopback-peers", "--no-cli", "--cert", b.certs.cert, "--pkey", b.certs.key,
			"--userdb", base + ".db", "--pidfile", base + ".pid", "--log-file", "/dev/null", "--no-stdout-log",
		}, more...)
		if !at.dtls {
			words = append(words, "--no-dtls")
		}
		return words, nil
	}
}

// newerCoturn returns a build of coturn, named by its version, and again with options that may make it faster, if it knows
// them.
func (b *bench) newerCoturn(ctx context.Context, program string) ([]kind, error) {
	version, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", program, err)
	}
	name := coturnName + " " + strings.TrimSpace(string(version))
	kinds := []kind{{name: name, command: b.coturn(program)}}
	help, _ := exec.CommandContext(ctx, program, "--help").CombinedOutput() // its exit status says nothing
	var more []string
	for _, option := range []string{"--multiplex-peer", "--udp-gso"} {
		if strings.Contains(string(help), option) {
			more = append(more, option)
		}
	}
	if len(more) > 0 {
		kinds = append(kinds, kind{name: name + " " + strings.Join(more, " "), command: b.coturn(program, more...)})
	}
	return kinds, nil
}
