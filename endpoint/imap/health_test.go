package imap

import (
	"strings"
	"testing"
)

// TestHealth checks that an endpoint is healthy if it can connect clients to its server.
func TestHealth(t *testing.T) {
	server := listenTCP(t)
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", server)
	server.Close()
	if err := start(t, config).Health(); err == nil || !strings.Contains(err.Error(), server.Addr().String()) {
		t.Errorf("without a server: %v", err)
	}
	if err := start(t, testConfig(t)).Health(); err != nil {
		t.Errorf("embedded: %v", err)
	}
}
