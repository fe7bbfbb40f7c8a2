package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBody is the size limit of a request's body in bytes.
const maxBody = 16 << 10

// Error is an error response: an HTTP status, and a message for people. Over the socket it is a JSON object with the message as
// "error".
type Error struct {
	Status  int
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Errorf returns an Error.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// Read decodes the body of a request into v, a pointer to a struct. It returns an *Error for a body that is too large, is not
// one JSON object, or has a field that v does not have. An empty body leaves v alone.
func Read(w http.ResponseWriter, r *http.Request, v any) error {
	err := decode(http.MaxBytesReader(w, r.Body, maxBody), v)
	if err == nil {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the answer may take longer
		return nil
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Errorf(http.StatusRequestEntityTooLarge, "the body of the request has more than %d bytes", tooLarge.Limit)
	}
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return Errorf(http.StatusBadRequest, "field %q of the request: want %v, got a %s", wrongType.Field, wrongType.Type, wrongType.Value)
	}
	return Errorf(http.StatusBadRequest, "the body of the request is not as expected: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// decode decodes one JSON value, and nothing else, from r.
func decode(r io.Reader, v any) error {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	switch err := decoder.Decode(v); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	switch _, err := decoder.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errors.New("there is more than one value")
}

// An Answer returns the value that answers a request, to be sent as JSON, or an error: an *Error has its own status, another one
// has 500.
type Answer func(w http.ResponseWriter, r *http.Request) (any, error)

// Handler returns a handler that sends what answer returns.
func Handler(answer Answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { respond(w, r, answer) })
}

// respond sends what answer returns. The connection ends if the client does not read it.
func respond(w http.ResponseWriter, r *http.Request, answer Answer) {
	v, err := answer(w, r)
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if e, ok := errors.AsType[*Error](err); ok {
			status = e.Status
		}
		v = map[string]string{"error": err.Error()}
	}
	text, err := Encode(v, "")
	if err != nil { // none of our types
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	end := time.Now().Add(readLimit)
	for piece := range slices.Chunk(text, pieceSize) {
		deadline := time.Now().Add(progressTimeout)
		if end.Before(deadline) {
			deadline = end
		}
		_ = http.NewResponseController(w).SetWriteDeadline(deadline)
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}
