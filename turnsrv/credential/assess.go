package credential

import (
	"slices"
	"strings"
)

// MinSecretLen is the minimum length of a secret in bytes: 128 bits, if all of them are random.
const MinSecretLen = 16

// Weakness is a problem with a secret.
type Weakness struct {
	// Fatal means that anybody can issue credentials under the secret, so the relay would be open.
	Fatal bool
	// Reason describes the problem, as a sentence without a full stop. It never contains the secret.
	Reason string
}

// samples are secrets from guides and example files, in the form that canonicalSample returns.
var samples = []string{
	"authsecret", "changeme", "changethis", "examplesecret", "logen", "mysecret", "openssl", "opensslrandhex32",
	"password", "putyoursecrethere", "randomsecret", "replaceme", "secret", "secretkey", "sharedsecret", "somesecret",
	"staticauthsecret", "supersecret", "test", "testsecret", "turnsecret", "verysecret", "yourauthsecret", "yoursecret",
	"yoursecrethere", "yoursecretkey", "yoursecretkeyhere", "yoursharedsecret", "yourturnsecret",
}

// Assess returns the weaknesses of s, the worst one first.
func Assess(s Secret) []Weakness {
	if s.IsZero() {
		return []Weakness{{Fatal: true, Reason: "The secret is empty: anybody could issue credentials"}}
	}
	if string(s.Bytes()) == "north" {
		return []Weakness{{
			Fatal: true,
			Reason: "This secret is public: it is compiled into chatmail-turn and printed in coturn's example file, " +
				"so anybody can issue credentials",
		}}
	}
	var found []Weakness
	if slices.Contains(samples, canonicalSample(string(s.Bytes()))) {
		found = append(found, Weakness{Reason: "The secret is a sample from documentation"})
	}
	if len(s.Bytes()) < MinSecretLen {
		found = append(found, Weakness{Reason: "The secret is shorter than 16 bytes and can be guessed from one issued credential"})
	}
	return found
}

// canonicalSample reduces s to its lower-case letters and digits, so that "<your secret>" and "YOUR_SECRET" are one.
func canonicalSample(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}
