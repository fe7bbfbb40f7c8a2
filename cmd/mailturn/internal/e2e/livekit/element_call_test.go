package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
)

// lkJWTService is what lk-jwt-service asked LiveKit for, and the tokens that it issued, when it was run. The file names its version. The
// program is not available as a Go module: its go.mod names the module "lk-jwt-service", which no proxy can find.
//
//go:embed testdata/lk_jwt_service.json
var lkJWTService []byte

// recording is the form of that file.
type recording struct {
	Room struct {
		Path, ContentType string
		Body              []byte
		Claims            map[string]any
	}
	Participants []struct{ Claims map[string]any } // alice's, over /sfu/get, and bob's, over /get_token
}

// Participants of the recording.
const (
	alice = iota
	bob
)

// elementCall is a room as lk-jwt-service makes it for Element Call.
type elementCall struct {
	url       string
	recording recording
}

// newElementCall makes the room by the recorded request.
func newElementCall(t *testing.T, url string) elementCall {
	t.Helper()
	e := elementCall{url: url}
	if err := json.Unmarshal(lkJWTService, &e.recording); err != nil {
		t.Fatal(err)
	}
	room := e.recording.Room
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http"+strings.TrimPrefix(url, "ws")+room.Path, bytes.NewReader(room.Body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", room.ContentType)
	request.Header.Set("Authorization", "Bearer "+renew(t, room.Claims, apiSecret))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("LiveKit answered %s to the recorded request for a room: %s (%v)", response.Status, text, err)
	}
	return e
}

// token returns the recorded token of a participant as if it had been issued now and signed with this secret.
func (e elementCall) token(t *testing.T, participant int, secret string) string {
	t.Helper()
	return renew(t, e.recording.Participants[participant].Claims, secret)
}

// renew returns a token (RFC 7519) with these claims and their duration, which begins now, signed with HS256.
func renew(t *testing.T, claims map[string]any, secret string) string {
	t.Helper()
	claims = maps.Clone(claims)
	now := float64(time.Now().Unix())
	lasts := claims["exp"].(float64) - claims["iat"].(float64)
	claims["iat"], claims["nbf"], claims["exp"] = now, now, now+lasts
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(payload)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// join has LiveKit's Go SDK join with relayed candidates alone, until the test ends.
func (e elementCall) join(t *testing.T, token string, callback lksdk.ParticipantCallback) (*lksdk.Room, error) {
	t.Helper()
	room, err := lksdk.ConnectToRoomWithToken(e.url, token, &lksdk.RoomCallback{ParticipantCallback: callback},
		lksdk.WithICETransportPolicy(webrtc.ICETransportPolicyRelay), lksdk.WithConnectTimeout(joinLimit))
	if err == nil {
		t.Cleanup(room.Disconnect)
	}
	return room, err
}
