//lint:file-ignore SA4006 the README's program leaves handling errors to its reader

package ctap2_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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

// Every command, subcommand, permission, extension, option and member of getInfo
// stands in the README, next to a Go name that exists.
func TestREADMEReference(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reference, _ := strings.Cut(string(readme), "\n## Reference\n")
	reference, _, _ = strings.Cut(reference, "\n## ")

	exported := exportedNames(t)
	rows := map[string]string{} // the title of a table and a cell: the names beside it
	var title string
	for line := range strings.Lines(reference) {
		if after, ok := strings.CutPrefix(line, "### "); ok {
			title = strings.TrimSpace(after)
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) < 2 || strings.HasPrefix(cells[0], "--") {
			continue
		}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line, -1) {
			if !exported[name[1]] {
				t.Errorf("%s: %s does not exist", title, name[1])
			}
			for _, cell := range cells[:len(cells)-1] {
				cell = strings.TrimSpace(cell)
				rows[title+": "+cell] += " " + name[1]
			}
		}
	}

	// What the specification numbers, as internal/ctap has it.
	numbered := map[string]string{"CmdVendorFirst": "", "CmdVendorLast": "", "CmdBioEnrollmentPreview": "", "CmdCredentialManagementPreview": ""}
	tables := []struct{ prefix, title, number string }{
		{"Cmd", "Commands and subcommands", "0x%02X"},
		{"PIN", "Commands and subcommands", "0x06.%02X"},
		{"Bio", "Commands and subcommands", "0x09.%02X"},
		{"CredMgmt", "Commands and subcommands", "0x0A.%02X"},
		{"Config", "Commands and subcommands", "0x0D.%02X"},
		{"Permission", "Permissions", "0x%02X"},
	}
	notCommands := regexp.MustCompile(`^PIN(Max|Default|Padded|Hash)|^Bio(Sample|Modality|FingerprintKind)|^Cmd(ClientPIN|CredentialManagement|Config)$`)
	found := 0
	for name, value := range numbers(t) {
		if _, skip := numbered[name]; skip || notCommands.MatchString(name) {
			continue
		}
		for _, table := range tables {
			if strings.HasPrefix(name, table.prefix) {
				found++
				if key := table.title + ": " + fmt.Sprintf(table.number, value); rows[key] == "" {
					t.Errorf("%s: the README has no row %q", name, key)
				}
				break
			}
		}
	}
	if found != 8+8+7+7+5+7 {
		t.Errorf("%d numbers in internal/ctap", found)
	}
	for _, name := range strings.Fields(`credProtect credBlob largeBlobKey largeBlob minPinLength pinComplexityPolicy
		hmac-secret hmac-secret-mc thirdPartyPayment`) {
		if rows["Extensions: "+name] == "" {
			t.Errorf("the README has no extension %q", name)
		}
	}
	for _, name := range strings.Fields(`plat rk clientPin up uv pinUvAuthToken noMcGaPermissionsWithClientPin largeBlobs ep
		bioEnroll userVerificationMgmtPreview uvBioEnroll authnrCfg uvAcfg credMgmt credentialMgmtPreview perCredMgmtRO
		setMinPINLength makeCredUvNotRqd alwaysUv`) {
		if rows["Options: "+name] == "" {
			t.Errorf("the README has no option %q", name)
		}
	}
	// Each member of getInfo has the field whose comment says its key.
	source, err := os.ReadFile("info.go")
	if err != nil {
		t.Fatal(err)
	}
	for key := 0x01; key <= 0x1F; key++ {
		field := regexp.MustCompile(fmt.Sprintf(`(?m)^\t(\w+) .*// 0x%02X\b`, key)).FindSubmatch(source)
		if names := rows[fmt.Sprintf("Members of getInfo: 0x%02X", key)]; field == nil || !strings.Contains(names+" ", " Info."+string(field[1])+" ") {
			t.Errorf("key 0x%02X of getInfo: the README has %q, info.go %q", key, names, field)
		}
	}
}

// exportedNames lists what package ctap2 exports: names, and methods and fields
// behind their type's.
func exportedNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Name.Name != "ctap2" {
			continue
		}
		for _, decl := range parsed.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				name := decl.Name.Name
				if decl.Recv != nil {
					receiver := decl.Recv.List[0].Type
					if star, ok := receiver.(*ast.StarExpr); ok {
						receiver = star.X
					}
					if ident, ok := receiver.(*ast.Ident); ok {
						name = ident.Name + "." + name
					}
				}
				names[name] = true
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							names[name.Name] = true
						}
					case *ast.TypeSpec:
						names[spec.Name.Name] = true
						if s, ok := spec.Type.(*ast.StructType); ok {
							for _, field := range s.Fields.List {
								for _, name := range field.Names {
									names[spec.Name.Name+"."+name.Name] = true
								}
							}
						}
					}
				}
			}
		}
	}
	return names
}

// numbers returns the constants of internal/ctap/ctap.go.
func numbers(t *testing.T) map[string]uint64 {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "../internal/ctap/ctap.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]uint64{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
				if v, err := strconv.ParseUint(literal.Value, 0, 64); err == nil {
					values[spec.Names[0].Name] = v
				}
			}
		}
		return true
	})
	return values
}
