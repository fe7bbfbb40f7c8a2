package imapext

import "strings"

// offersCompress reports whether COMPRESS=DEFLATE is announced: after login, and while it is not active (RFC 4978 section 3).
func (f *Filter) offersCompress() bool {
	return f.options.Compress && f.loggedIn && !f.compressed
}

// decideCompress answers COMPRESS. It is not forwarded, because the streams to and from the backend have to stay readable.
func (f *Filter) decideCompress() Event {
	mechanism := strings.TrimSpace(string(f.client.collected))
	switch {
	case !f.options.Compress:
		return f.answerStatus("NO COMPRESS is not available")
	case !f.loggedIn:
		return f.answerStatus("BAD Log in first")
	case mechanism == "":
		return f.answerStatus("BAD COMPRESS takes a mechanism")
	case !strings.EqualFold(mechanism, "DEFLATE"):
		return f.answerStatus("NO Unknown compression mechanism")
	case f.compressed:
		return f.answerStatus("NO [COMPRESSIONACTIVE] DEFLATE is active already")
	case len(f.outstanding.tags) > 0 || f.backend.passing():
		// The backend's remaining responses belong before the OK, after which the client reads only compressed data.
		return Wait
	}
	f.answerStatus("OK DEFLATE active")
	f.compressed = true
	f.gated = true
	return Compress
}
