package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// forward runs the command "bench forward LISTEN BACKEND CERT KEY": the least that a proxy in Go does. It terminates TLS and copies
// both byte streams, with crypto/tls, package net and two goroutines for each connection.
func forward(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("want an address to listen at, that of the backend, and the files of a certificate and its key")
	}
	cert, err := tls.LoadX509KeyPair(args[2], args[3])
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", args[0], &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go forwardClient(client, args[1])
	}
}

func forwardClient(client net.Conn, addr string) {
	defer client.Close()
	backend, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	go func() {
		defer backend.Close()
		io.Copy(backend, client)
	}()
	io.Copy(client, backend)
}
