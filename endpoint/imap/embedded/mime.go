package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
)

// Bounds of the structure of a message. go-imap computes BODYSTRUCTURE by recursion, holding a copy of every message inside a
// message: 3 MB of nested "Content-Type: message/rfc822" took it more than 10 GB.
const (
	maxParts            = 1000
	maxMultipartNesting = 30
	maxMessageNesting   = 8
)

var errMIMEStructure = errors.New("message has too many parts, or they are nested too deeply")

// checkMIME returns errMIMEStructure for a message whose structure exceeds the limits, and nil for every other one, even if it is
// malformed.
func checkMIME(raw []byte) error {
	r := bufio.NewReader(bytes.NewReader(raw))
	header, _ := textproto.ReadHeader(r)
	parts := 0
	return walkMIME(header, r, &parts, 0, 0)
}

func walkMIME(header textproto.Header, body io.Reader, parts *int, multiparts, messages int) error {
	if *parts++; *parts > maxParts || multiparts > maxMultipartNesting || messages > maxMessageNesting {
		return errMIMEStructure
	}
	// The media type is determined exactly as in go-imap, which does not descend into what it cannot parse.
	entity := message.Header{Header: header}
	mediaType, params, _ := entity.ContentType()
	primaryType, _, _ := strings.Cut(mediaType, "/")
	switch {
	case primaryType == "multipart":
		reader := textproto.NewMultipartReader(body, params["boundary"])
		for {
			part, _ := reader.NextPart()
			if part == nil {
				return nil
			}
			if err := walkMIME(part.Header, part, parts, multiparts+1, messages); err != nil {
				return err
			}
		}
	case mediaType == "message/rfc822", mediaType == "message/global":
		r := bufio.NewReader(body)
		inner, _ := textproto.ReadHeader(r)
		return walkMIME(inner, r, parts, multiparts, messages+1)
	}
	return nil
}
