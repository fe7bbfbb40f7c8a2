package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/socket"
)

type message struct {
	Text string `json:"text"`
}

// serve serves a handler that returns what it is sent, and the address of the socket.
func serve(t *testing.T) (Client, *Server) {
	t.Helper()
	dir, err := os.MkdirTemp("", "control") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	mux := http.NewServeMux()
	mux.Handle("PUT /echo", Handler(func(w http.ResponseWriter, r *http.Request) (any, error) {
		var m message
		err := Read(w, r, &m)
		return m, err
	}))
	mux.Handle("GET /caller", Handler(func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return message{CallerOf(r.Context()).String()}, nil
	}))
	mux.Handle("GET /fails", Handler(func(http.ResponseWriter, *http.Request) (any, error) {
		return nil, errors.New("the disk is full")
	}))
	mux.Handle("GET /list", NewGate().Handler(func(http.ResponseWriter, *http.Request) (any, error) {
		return message{strings.Repeat("a", 8<<20)}, nil
	}))
	path := filepath.Join(dir, "control.socket")
	s, err := Listen(t.Context(), socket.Config{Path: path, Mode: 0o660, UID: -1, GID: -1}, mux, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel() // what is not answered is cut
		s.Close(ended)
	})
	return Client{Path: path}, s
}

func TestCall(t *testing.T) {
	client, server := serve(t)
	var got message
	const text = "with spaces, \x1b[31m and <html> & \"quotes\""
	if err := client.Call(t.Context(), http.MethodPut, "/echo", message{text}, &got); err != nil || got.Text != text {
		t.Errorf("got %q, %v", got.Text, err)
	}
	if err := client.Call(t.Context(), http.MethodGet, "/caller", nil, &got); err != nil || !strings.Contains(got.Text, fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("the caller is %q, %v; want this process", got.Text, err)
	}
	err := client.Call(t.Context(), http.MethodGet, "/fails", nil, &got)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 500 || e.Message != "the disk is full" {
		t.Errorf("got %v", err)
	}
	if err := client.Call(t.Context(), http.MethodGet, "/nothing", nil, &got); err == nil || !strings.Contains(err.Error(), "404 Not Found: is it another version?") {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat(client.Path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got %v, %v, want the mode of the configuration", info.Mode(), err)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := client.Call(t.Context(), http.MethodGet, "/caller", nil, &got); err == nil || !strings.Contains(err.Error(), "there is no control socket "+client.Path+": is mailturn running?") {
		t.Errorf("after the end: got %v", err)
	}
}

// TestBadRequests wants each of them refused with a message, and the next one answered.
func TestBadRequests(t *testing.T) {
	client, _ := serve(t)
	for _, tt := range []struct{ name, body, want string }{
		{"cut JSON", `{"text": "`, "400 the body of the request is not as expected: unexpected EOF"},
		{"not JSON", "text=a", "400 the body of the request is not as expected"},
		{"unknown field", `{"txet": "a"}`, `400 the body of the request is not as expected: unknown field "txet"`},
		{"wrong type", `{"text": 5}`, `400 field "text" of the request: want string, got a number`},
		{"two values", `{"text": "a"}{"text": "b"}`, "400 the body of the request is not as expected: there is more than one value"},
		{"too large", `{"text": "` + strings.Repeat("a", maxBody) + `"}`, "413 the body of the request has more than 16384 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := raw(t, client.Path, fmt.Sprintf("PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(tt.body), tt.body))
			if got := fmt.Sprint(status, " ", text); !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), strings.Replace(tt.want, " ", ` {"error":"`, 1)) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if status, _ := raw(t, client.Path, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 4*maxHeader)+"\r\n\r\n"); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("long header: got %d", status)
	}
	var got message
	if err := client.Call(t.Context(), http.MethodPut, "/echo", message{"a"}, &got); err != nil || got.Text != "a" {
		t.Errorf("afterwards: got %q, %v", got.Text, err)
	}
}

// raw sends a request as it is, and returns status and body of the response.
func raw(t *testing.T, path, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, request) // the server may answer before it has read all
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body) // cut if the server has not read the whole request
	return response.StatusCode, string(text)
}

// TestManyClients has more clients than places: most do not read a list that they have asked for, the others send nothing, or a part of
// a request, or do not read a short response. Further clients are answered after these have had their time.
func TestManyClients(t *testing.T) {
	client, _ := serve(t)
	for i := range maxConns + 36 {
		conn, err := net.Dial("unix", client.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		switch {
		case i < maxConns:
			io.WriteString(conn, "GET /list HTTP/1.1\r\nHost: x\r\n\r\n")
		case i%3 == 1:
			io.WriteString(conn, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
		case i%3 == 2:
			io.WriteString(conn, "GET /caller HTTP/1.1\r\nHost: x\r\n\r\n")
		}
	}
	start := time.Now()
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			var got message
			if err := client.Call(t.Context(), http.MethodPut, "/echo", message{"a"}, &got); err != nil || got.Text != "a" {
				t.Errorf("got %q, %v", got.Text, err)
			}
		})
	}
	asking.Wait()
	if took := time.Since(start); took < readTimeout/2 || took > 4*readTimeout {
		t.Errorf("answered after %v: want it to wait for a place, and no longer than the others may keep theirs", took)
	}
}

// TestSecondServer wants the socket of a running process to stay its own, and that of one that has ended to be replaced.
func TestSecondServer(t *testing.T) {
	client, _ := serve(t)
	config := socket.Config{Path: client.Path, Mode: 0o600, UID: -1, GID: -1}
	if _, err := Listen(t.Context(), config, http.NotFoundHandler(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process is listening there") {
		t.Errorf("got %v", err)
	}
	var got message
	if err := client.Call(t.Context(), http.MethodPut, "/echo", message{"a"}, &got); err != nil {
		t.Error(err)
	}

	config.Path += "2"
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: config.Path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := (Client{Path: config.Path}).Call(t.Context(), http.MethodGet, "/", nil, nil); err == nil || !strings.Contains(err.Error(), "nobody answers on the control socket") {
		t.Errorf("on the stale socket: got %v", err)
	}
	second, err := Listen(t.Context(), config, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// FuzzDecode wants no body of a request to do more than to be refused.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", `{"text": "a"}`, `{"text": 5}`, `{"a": {"b": [`, "\x00", `{"text":"a"}{}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var m message
		if err := decode(strings.NewReader(body), &m); err == nil && len(m.Text) > 3*len(body) {
			t.Errorf("%q: decoded to %q", body, m.Text)
		}
	})
}
