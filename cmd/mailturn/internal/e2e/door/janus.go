package door

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// otherTransports of Janus's API are those besides HTTP.
const otherTransports = "libjanus_pfunix.so,libjanus_websockets.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_rabbitmq.so"

// runJanus trusts one more certificate, and knows one more host.
const runJanus = `
cat /etc/ssl/certs/ca-certificates.crt CERTIFICATE >trusted
mount --bind trusted /etc/ssl/certs/ca-certificates.crt
echo HOST >hosts
touch /etc/hosts
mount --bind hosts /etc/hosts
exec setpriv --reuid=nobody --regid=nogroup --clear-groups janus --disable-colors
`

// Janus is how to run it.
type Janus struct {
	Lines       string // in the section nat of its configuration
	Certificate string // that it trusts: a file in the directory for temporary data
	Host        string // that it knows: a line of hosts(5)
	Namespace   string // the network that it runs in, as ip-netns(8) names it, where it uses its default ports
}

// StartJanus runs Janus in root, where it is installed, until Stop. ctx bounds only the start.
func StartJanus(ctx context.Context, root *chroot.Root, j Janus) (*chroot.Server, error) {
	return start(ctx, root, map[string]edit{"/etc/janus/janus.jcfg": replaceOnce(
		"\nnat: {\n", "\nnat: {\n"+j.Lines,
		"\ntransports: {\n", "\ntransports: {\ndisable = \""+otherTransports+"\"\n",
	)}, chroot.Program{
		Name:      "janus",
		Script:    strings.NewReplacer("CERTIFICATE", j.Certificate, "HOST", j.Host).Replace(runJanus),
		Ready:     "JANUS REST (HTTP/HTTPS) transport plugin initialized!", // it hangs if a request arrives earlier
		Namespace: j.Namespace,
	})
}

// offer is a call with audio by somebody who has no candidates.
const offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n" +
	"a=mid:0\r\na=ice-ufrag:Tkr1\r\na=ice-pwd:ThisIsThePasswordOfICE01\r\na=setup:actpass\r\na=rtcp-mux\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\n" +
	"a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n"

// message is one of the API of Janus.
type message struct {
	Janus       string          `json:"janus"`
	Transaction string          `json:"transaction,omitempty"`
	Plugin      string          `json:"plugin,omitempty"`
	OpaqueID    string          `json:"opaque_id,omitempty"`
	Body        json.RawMessage `json:"body,omitempty"`
	JSEP        *jsep           `json:"jsep,omitempty"`
	Data        struct {
		ID int64 `json:"id,omitempty"`
	} `json:"data"`
	Error *struct {
		Reason string `json:"reason"`
	} `json:"error,omitempty"`
}

type jsep struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// Call calls the echo test of Janus as a user of an application does, under its opaque_id unless that is empty, and returns the SDP
// that Janus answers with, where its candidates are. dial connects to Janus from within its network.
func Call(ctx context.Context, opaqueID string, dial func(network, address string) net.Conn) (sdp string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(_ context.Context, network, address string) (net.Conn, error) { return dial(network, address), nil },
		DisableKeepAlives: true, // Janus closes connections without notice
	}}
	const api = "http://127.0.0.1:8088/janus"
	session, err := ask(ctx, client, api, &message{Janus: "create"})
	if err != nil {
		return "", err
	}
	url := fmt.Sprintf("%s/%d", api, session.Data.ID)
	handle, err := ask(ctx, client, url, &message{Janus: "attach", Plugin: "janus.plugin.echotest", OpaqueID: opaqueID})
	if err != nil {
		return "", err
	}
	call := &message{Janus: "message", Body: json.RawMessage(`{"audio":true}`), JSEP: &jsep{"offer", offer}}
	if _, err := ask(ctx, client, fmt.Sprintf("%s/%d", url, handle.Data.ID), call); err != nil {
		return "", err
	}
	for {
		event, err := ask(ctx, client, url, nil)
		if err != nil || event.JSEP != nil {
			return event.sdp(), err
		}
	}
}

func (m message) sdp() string {
	if m.JSEP == nil {
		return ""
	}
	return m.JSEP.SDP
}

// ask sends a message by POST, or asks by GET for the next event, and returns the answer.
func ask(ctx context.Context, client *http.Client, url string, m *message) (answer message, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if m != nil {
		m.Transaction = "1"
		text, _ := json.Marshal(m) // which can always be encoded
		request, err = http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	}
	if err != nil {
		return answer, err
	}
	response, err := client.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return answer, err
	}
	if answer.Error != nil {
		err = errors.New(answer.Error.Reason)
	}
	return answer, err
}
