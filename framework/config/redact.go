package config

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/agext/levenshtein"
)

// span is a part of a source text, in bytes.
type span struct{ start, end int }

// hiddenIn returns the parts of the line src[start:end] that must not be shown, in order and not overlapping: the values of
// attributes that are known to be secret, and what follows a name that sounds like a secret, because text that does not parse is
// quoted too.
func (s *sources) hiddenIn(filename string, start, end int) []span {
	src := s.text[filename]
	named, ok := s.named[filename]
	if !ok {
		named = secretSpans(src)
		s.named[filename] = named
	}
	first, _ := slices.BinarySearchFunc(named, start, func(part span, start int) int { return part.end - start })
	var spans []span
	for _, part := range named[first:] {
		if part.start >= end {
			break
		}
		spans = append(spans, part)
	}
	for _, rng := range s.secrets {
		if rng.Filename == filename {
			spans = append(spans, span{rng.Start.Byte, rng.End.Byte})
		}
	}
	var hidden []span
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	for _, part := range spans {
		multiLine := bytes.IndexByte(src[part.start:part.end], '\n') >= 0
		part = span{max(part.start, start), min(part.end, end)}
		for part.start < part.end && isSpace(src[part.start]) {
			part.start++
		}
		if part.start >= part.end || !multiLine && secretReference.Match(src[part.start:part.end]) {
			continue
		}
		if n := len(hidden); n > 0 && part.start <= hidden[n-1].end {
			hidden[n-1].end = max(hidden[n-1].end, part.end)
			continue
		}
		hidden = append(hidden, part)
	}
	return hidden
}

// secretReference matches a value that says where a secret is, and does not contain it.
var secretReference = regexp.MustCompile(
	`^(file\("[^"\\$]*"\)|env\("[^"\\$]*"\)|local\.[\w-]+|\{env:\w+\}|"\{env:\w+\}"|\$\([\w.-]+\))\s*(#\s.*)?$`)

// secretSpans finds what follows each word that names a secret, up to the end of its line, or of the brackets, quotes or heredoc
// opened there. It works on both syntaxes, and on text that is neither.
func secretSpans(src []byte) []span {
	var spans []span
	quoted := false
	for i := 0; i < len(src); {
		switch b := src[i]; {
		case b == '\n':
			quoted = false // a stray quotation mark must not hide the rest of the file
			i++
		case b == '"':
			quoted = !quoted
			i++
		case quoted || !isWord(b):
			i++
		default:
			word := i
			for i < len(src) && isWord(src[i]) {
				i++
			}
			inPath := word > 0 && src[word-1] == '/'
			if inPath || !namesSecret(string(src[word:i])) {
				continue
			}
			end := secretEnd(src, i)
			for i < end && (isSpace(src[i]) && src[i] != '\n' || src[i] == '=' || src[i] == ':') {
				i++
			}
			spans = append(spans, span{i, end})
			i = end
		}
	}
	return spans
}

// secretEnd returns where the value that begins at src[i] ends.
func secretEnd(src []byte, i int) int {
	depth := 0
	quoted := false
	for ; i < len(src); i++ {
		rest := src[i:]
		switch b := src[i]; {
		case b == '\\' && i+1 < len(src):
			i++ // an escape, or a continued line
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '\n' && depth == 0:
			return i
		case bytes.HasPrefix(rest, []byte("<<")):
			i += heredocLength(rest)
		case strings.IndexByte("{[(", b) >= 0:
			depth++
		case strings.IndexByte("}])", b) >= 0:
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return len(src)
}

var heredoc = regexp.MustCompile(`^<<-?([\w-]+)[^\n]*\n`)

// heredocLength returns the number of bytes before the closing line of the heredoc that src begins with.
func heredocLength(src []byte) int {
	opening := heredoc.FindSubmatch(src)
	if opening == nil {
		return 0
	}
	length := len(opening[0])
	for line := range bytes.Lines(src[length:]) {
		if bytes.Equal(bytes.TrimSpace(line), opening[1]) {
			return length
		}
		length += len(line)
	}
	return len(src)
}

// namesSecret reports whether an attribute of this name likely holds a secret, even if the name is misspelt. One such as
// secret_file holds a path.
func namesSecret(name string) bool {
	name = strings.ToLower(name)
	parts := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) })
	if len(parts) == 0 || slices.Contains([]string{"file", "path", "dir", "ttl"}, parts[len(parts)-1]) {
		return false
	}
	for _, part := range parts {
		switch part {
		case "users", "token", "tokens", "psk", "apikey", "hmac", "credential", "credentials", "passphrase":
			return true
		}
		if len(part) < 4 {
			continue
		}
		for _, secret := range []string{"secret", "secrets", "password", "passwd"} {
			if strings.Contains(part, secret) || levenshtein.Distance(part, secret, nil) <= 2 {
				return true
			}
		}
	}
	return strings.Contains(name, "api_key") || strings.Contains(name, "api-key")
}

func isWord(b byte) bool {
	return b == '_' || b == '-' || b == '.' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b >= 0x80
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }
