//lint:file-ignore SA4006 the README's program leaves handling errors to its reader

package ctap2_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
)

// readme is the program of the README, with what it takes as given.
func readme(ctx context.Context, path string, id, hash []byte, prompt ctap2.Interaction) error {
	dev, err := hid.Open(ctx, path)
	key, err := ctap2.Open(ctx, dev, ctap2.WithInteraction(prompt))
	fmt.Println(key.Info().Versions, key.Info().AAGUID)

	cred, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash:   hash,
		RP:               ctap2.RelyingParty{ID: "example.com", Name: "Example"},
		User:             ctap2.User{ID: id, Name: "ada@example.com", DisplayName: "Ada"},
		Algorithms:       []cose.Algorithm{cose.EdDSA, cose.ES256},
		ResidentKey:      true,
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret(), ctap2.CredProtect(ctap2.UVOptional)},
	})
	accounts, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{RPID: "example.com", ClientDataHash: hash})
	err = accounts[0].Verify(cred.PublicKey, hash)
	return err
}

// The README shows the program above, word for word: what compiles here is
// what a reader copies.
func TestREADMEProgram(t *testing.T) {
	_ = readme
	lines := func(name, after, before string) string {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(data), after)
		block, _, found := strings.Cut(rest, before)
		if !found {
			t.Fatalf("%s: no program between %q and %q", name, after, before)
		}
		var out []string
		for line := range strings.Lines(block) {
			out = append(out, strings.TrimSpace(line))
		}
		return strings.TrimSpace(strings.Join(out, "\n"))
	}
	inREADME := lines("../README.md", "```go\n", "```")
	here := lines("readme_test.go", "prompt ctap2.Interaction) error {\n", "\treturn err\n")
	if inREADME != here {
		t.Errorf("README:\n%s\n\nhere:\n%s", inREADME, here)
	}
}
