package turn

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestTricklingReaderHoldsLittle has a client read fast, until the system has enlarged the connection's buffer, and then not at
// all.
func TestTricklingReaderHoldsLittle(t *testing.T) {
	listener, err := listenTCP(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const fast = 32 << 20
	read := make(chan error, 1)
	go func() { _, err := io.CopyN(io.Discard, client, fast); read <- err }()
	chunk := make([]byte, 16<<10)
	for range fast / len(chunk) {
		if _, err := server.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	held := 0
	for err = nil; err == nil; {
		var n int
		server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err = server.Write(chunk)
		held += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if held > 1<<20 { // maxUnsent, and what the client's own buffer takes
		t.Errorf("the system holds %d bytes for a client that does not read, want 1 MiB or less", held)
	}
}
