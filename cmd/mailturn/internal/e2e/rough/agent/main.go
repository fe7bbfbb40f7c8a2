// Command agent is a party of package party, made of pion/webrtc.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

// request is a call of a method.
type request struct {
	ID     int               `json:"id"`
	Method string            `json:"method"`
	Args   []json.RawMessage `json:"args"`
}

func main() {
	e := &end{}
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil { // the test closes the input to end the party
			break
		}
		var r request
		answer := map[string]any{}
		if err := json.Unmarshal(line, &r); err != nil {
			answer["error"] = err.Error()
		} else if value, err := e.do(r); err != nil {
			answer["error"] = err.Error()
		} else {
			answer["value"] = value
		}
		answer["id"] = r.ID
		if err := output.Encode(answer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := e.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// do calls the method.
func (e *end) do(r request) (any, error) {
	var servers []party.Server
	var restart bool
	var text string
	switch r.Method {
	case "begin":
		return nil, r.into(&e.size, &e.rate)
	case "offer":
		if err := r.into(&servers, &restart); err != nil {
			return nil, err
		}
		return e.offer(servers, restart)
	case "answer":
		if err := r.into(&servers, &restart, &text); err != nil {
			return nil, err
		}
		return e.answer(servers, restart, text)
	case "accept":
		if err := r.into(&text); err != nil {
			return nil, err
		}
		return nil, e.accept(text)
	case "quiet":
		e.quiet.Store(true)
		return nil, nil
	case "state":
		return e.state()
	case "counts":
		return e.counted(), nil
	}
	return nil, fmt.Errorf("no method %q", r.Method)
}

// into decodes the arguments.
func (r request) into(values ...any) error {
	if len(r.Args) != len(values) {
		return fmt.Errorf("%d arguments of %s, want %d", len(r.Args), r.Method, len(values))
	}
	for i, value := range values {
		if err := json.Unmarshal(r.Args[i], value); err != nil {
			return err
		}
	}
	return nil
}
