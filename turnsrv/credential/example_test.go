package credential_test

import (
	"fmt"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// A credential is issued, a client signs an Allocate request with it, and the relay verifies that. Issuer and relay share a secret
// and nothing else.
func Example() {
	secret := credential.NewSecret([]byte("a secret of at least sixteen bytes"))
	now := time.Unix(1758218868, 0)
	const realm = "example.org"

	// The issuer.
	issued := credential.Issuer{Secret: secret, TTL: 5 * 24 * time.Hour}.Issue(now)
	fmt.Println("issued:", issued)

	// The client.
	var request stun.Builder
	request.Start(stun.MethodAllocate, stun.ClassRequest, stun.TransactionID{1, 2, 3})
	request.Text(stun.AttrUsername, issued.Username)
	request.Text(stun.AttrRealm, realm)
	request.MessageIntegrity(credential.LongTermKey(issued.Username, realm, issued.Password))

	// The relay.
	verifier := credential.Verifier{Secrets: []credential.Secret{secret}}
	message, err := stun.Parse(request.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	grant, ok := verifier.Lookup(issued.Username, realm)
	if !ok {
		fmt.Println("401 Unauthenticated: unknown user")
		return
	}
	for _, key := range grant.Keys { // several while a secret is being replaced
		fmt.Println("signed with it:", message.VerifyIntegrity(key.Value))
	}
	fmt.Println("valid today:", now.Before(grant.Expires))
	fmt.Println("valid in a week:", now.AddDate(0, 0, 7).Before(grant.Expires))
	// Output:
	// issued: 1758650868 (until 2025-09-23T18:07:48Z)
	// signed with it: true
	// valid today: true
	// valid in a week: false
}

func ExampleIssuer_Issue() {
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte("test-secret")), TTL: 5 * 24 * time.Hour}
	c := issuer.Issue(time.Unix(1758218868, 0))
	fmt.Println(c.Username, c.Password)
	// Output: 1758650868 nkfvRIGUcx0N/jq/StNLPajpLZE=
}
