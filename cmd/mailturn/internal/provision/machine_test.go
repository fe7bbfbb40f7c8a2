package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// today is when the machines of tests are looked at.
var today = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// A scenario is a machine as a file in testdata describes it. Its parts are files of the machine, and:
//
//	$ PROGRAM ARGS   what that prints; "exit 1" in the first line has it fail
//	dns              a name and its addresses in each line
//	addresses        of the machine
//	sockets          NETWORK ADDRESS:PORT PID PROGRAM in each line
//	certificates     CERT KEY NAMES DAYS in each line; "self" at the end makes one self-signed
type scenario struct {
	*Machine
	outputs map[string]string // by command
}

// newScenario makes the machine in a directory.
func newScenario(t *testing.T, archive *txtar.Archive) *scenario {
	t.Helper()
	return newScenarioIn(t, t.TempDir(), archive)
}

func newScenarioIn(t *testing.T, root string, archive *txtar.Archive) *scenario {
	t.Helper()
	s := &scenario{Machine: &Machine{Root: root, Now: func() time.Time { return today }, Mailturn: "mailturn"}, outputs: make(map[string]string)}
	dns := make(map[string][]netip.Addr)
	var own []netip.Addr
	for _, file := range archive.Files {
		text := string(file.Data)
		command, isCommand := strings.CutPrefix(file.Name, "$ ")
		switch {
		case isCommand:
			s.outputs[command] = text
		case file.Name == "dns":
			for line := range strings.Lines(text) {
				fields := strings.Fields(line)
				for _, addr := range fields[1:] {
					dns[fields[0]] = append(dns[fields[0]], netip.MustParseAddr(addr))
				}
			}
		case file.Name == "addresses":
			for addr := range strings.FieldsSeq(text) {
				own = append(own, netip.MustParseAddr(addr))
			}
		case file.Name == "sockets":
			s.listen(t, text)
		case file.Name == "certificates":
			for line := range strings.Lines(text) {
				s.certify(t, strings.Fields(line))
			}
		case strings.HasPrefix(file.Name, "/"):
			s.write(t, file.Name, text)
		}
	}
	s.Run = func(_ context.Context, program string, args ...string) (string, error) {
		command := strings.Join(append([]string{program}, args...), " ")
		output, ok := s.outputs[command]
		if !ok {
			return command + ": not found", errors.New("exit status 127")
		}
		if rest, failed := strings.CutPrefix(output, "exit 1\n"); failed {
			return rest, errors.New("exit status 1")
		}
		return output, nil
	}
	s.Lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
		if dns[name] == nil {
			return nil, fmt.Errorf("%s: no such name (NXDOMAIN)", name)
		}
		return dns[name], nil
	}
	s.Addresses = func() ([]netip.Addr, error) { return own, nil }
	return s
}

func (s *scenario) write(t *testing.T, name, text string) {
	path := s.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// listen writes the files of proc_net(5), and the descriptors of the processes.
func (s *scenario) listen(t *testing.T, text string) {
	tables := make(map[string]string)
	inode := 1000
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		network, pid, program := fields[0], fields[2], fields[3]
		addr := netip.MustParseAddrPort(fields[1])
		b := addr.Addr().AsSlice()
		for word := range slices.Chunk(b, 4) {
			slices.Reverse(word)
		}
		state := map[string]string{"tcp": "0A", "udp": "07"}[network]
		if addr.Addr().Is6() {
			network += "6"
		}
		inode++
		tables[network] += fmt.Sprintf("   0: %s:%04X %s:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %d 1\n",
			strings.ToUpper(hex.EncodeToString(b)), addr.Port(), strings.Repeat("0", 2*len(b)), state, inode)
		s.write(t, "/proc/"+pid+"/comm", program+"\n")
		link := s.path(fmt.Sprintf("/proc/%s/fd/%d", pid, inode))
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(fmt.Sprintf("socket:[%d]", inode), link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, network := range []string{"tcp", "tcp6", "udp", "udp6"} {
		s.write(t, "/proc/net/"+network, "  sl  local_address rem_address   st ...\n"+tables[network])
	}
}

// certify makes a certificate: CERT KEY NAMES DAYS [self].
func (s *scenario) certify(t *testing.T, fields []string) {
	t.Helper()
	days, err := time.ParseDuration(fields[3] + "h")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: fields[1]}, DNSNames: strings.Split(fields[2], ","),
		NotBefore: today.Add(-100 * 24 * time.Hour), NotAfter: today.Add(24 * days)}
	issuer, issuerKey := leaf, key
	if len(fields) < 5 {
		issuer = &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "an authority"}}
		if issuerKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, fields[0], string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	s.write(t, fields[1], string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}
