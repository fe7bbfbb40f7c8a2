package http

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/http"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/metrics"
)

// An endpoint for the clients of a relay that is another server.
func Example() {
	file, _ := config.Parse("maddy.conf", []byte(`
endpoint "http" "http" {
  listen      = "http://127.0.0.1:0"
  api_keys    = "a key that nobody guesses"
  turn_server = "turn.example.org"
  turn_secret = "a secret that coturn has too"
}`))
	c, _ := Decode(file.Endpoints[0], Defaults{})
	if diags := c.TURN.Link(nil, c.Range); diags.HasErrors() {
		log.Fatal(diags)
	}
	process := Process{Ready: func() bool { return true }, Health: func() error { return nil }, Metrics: metrics.NewRegistry()}
	endpoint, err := New(c, process, slog.New(slog.DiscardHandler))
	if err != nil {
		log.Fatal(err)
	}
	if err := endpoint.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	defer endpoint.Shutdown(context.Background())

	response, err := http.Get("http://" + endpoint.Addrs()[0].String() + "/turn?service=turn&key=a+key+that+nobody+guesses")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	var credential struct{ URIs []string }
	if err := json.NewDecoder(response.Body).Decode(&credential); err != nil {
		log.Fatal(err)
	}
	fmt.Println(credential.URIs[0])
	// Output: turn:turn.example.org:3478?transport=udp
}
