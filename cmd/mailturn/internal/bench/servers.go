package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

const startLimit = 20 * time.Second

// A server is what clients connect to.
type server struct {
	name string
	addr string // of IMAP over TLS, or of plain IMAP for Dovecot without a proxy
	tls  bool
	// group is the process group whose CPU time and memory count.
	group int
	proxy bool
}

// awaitListener waits until something accepts connections at addr.
func awaitListener(ctx context.Context, addr string, exited <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-exited:
			return fmt.Errorf("ended at once: %w", err)
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// startServers starts Dovecot, the proxies in front of it, and the HTTP server that nginx asks for the backend. logs returns the
// ends of their logs.
func startServers(ctx context.Context, dir string, proxies []proxy, c certificate) (servers []*server, logs func() string, stopAll func() error, err error) {
	var stops []func() error
	var logFiles []string
	stop := func() error {
		var errs []error
		for i := len(stops) - 1; i >= 0; i-- {
			errs = append(errs, stops[i]())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()

	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	backend, err := dovecot.Start(ctx, dovecot.Options{AttributeDict: "file:%h/attributes", ClientsPerProcess: 8192})
	if err != nil {
		return nil, nil, nil, err
	}
	stops = append(stops, backend.Stop)
	authURL, err := serveAuth(backend.Addr, &stops)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, proxy := range proxies {
		port, err := freePort()
		if err != nil {
			return nil, nil, nil, err
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		file := filepath.Join(dir, proxy.name+".conf")
		values := map[string]string{
			"listen": addr, "backend": backend.Addr, "cert": c.certFile, "key": c.keyFile, "pair": c.pairFile, "auth": authURL,
			"file": file, "pid": file + ".pid", "modules": "/usr/lib/nginx/modules",
			"state": filepath.Join(dir, "state of "+proxy.name), "bench": self,
		}
		value := func(name string) string { return values[name] }
		if err := os.WriteFile(file, []byte(os.Expand(proxy.configuration, value)), 0o600); err != nil {
			return nil, nil, nil, err
		}
		command := slices.Clone(proxy.command)
		for i := range command {
			command[i] = os.Expand(command[i], value)
		}
		child, err := process.Start(file+".log", command[0], command[1:]...)
		if err != nil {
			return nil, nil, nil, err
		}
		stops = append(stops, child.Stop)
		logFiles = append(logFiles, file+".log")
		if err := awaitListener(ctx, addr, child.Exited()); err != nil {
			log, _ := os.ReadFile(file + ".log")
			return nil, nil, nil, fmt.Errorf("%s: %w\n%s", proxy.name, err, log)
		}
		servers = append(servers, &server{name: proxy.name, addr: addr, tls: true, group: child.Group(), proxy: true})
	}
	logs = func() string {
		text := process.End(backend.Log())
		for _, file := range logFiles {
			log, _ := os.ReadFile(file)
			text += process.End(string(log))
		}
		return text
	}
	return append(servers, &server{name: "Dovecot", addr: backend.Addr, group: backend.PID()}), logs, stop, nil
}

// serveAuth tells nginx's mail proxy the server of every user.
func serveAuth(backend string, stops *[]func() error) (url string, err error) {
	host, port, err := net.SplitHostPort(backend)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	auth := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Auth-Status", "OK")
		w.Header().Set("Auth-Server", host)
		w.Header().Set("Auth-Port", port)
		io.WriteString(w, "")
	})}
	go auth.Serve(listener)
	*stops = append(*stops, auth.Close)
	return listener.Addr().String() + "/", nil
}
