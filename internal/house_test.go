// Package internal holds what several rooms of the house share. This test
// holds the plan of the house itself.
package internal

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tapstone/fido"

// mayImport says what each room may import of this module, besides its own
// sub-folders. Imports go down only, never sideways.
var mayImport = []struct {
	room string
	may  []string
}{
	{"examples", []string{"cose", "ctap2", "hid", "internal", "nfc", "pin"}},
	{"ctap2/conformance", []string{"ctap2", "pin", "cose", "internal"}},
	{"ctap2/keys", []string{"ctap2", "hid", "nfc"}},
	{"ctap2/entra", []string{"ctap2", "ctap2/webauthn", "ctap2/attestation", "cose"}},
	{"ctap2/webauthn", []string{"ctap2", "pin", "cose"}}, // pin: the type of secrets
	{"ctap2/attestation", []string{"ctap2", "cose"}},
	{"ctap2/virtual", []string{"pin", "cose", "internal"}},
	{"ctap2", []string{"pin", "cose", "internal"}},
	{"hid", []string{"internal"}},
	{"nfc", []string{"internal"}},
	{"pin", []string{"cose", "internal"}},
	{"cose", []string{"internal"}},
	{"internal", nil},
}

// roomOf returns the room that a folder belongs to, "" if it belongs to none.
func roomOf(folder string) string {
	for _, r := range mayImport {
		if folder == r.room || strings.HasPrefix(folder, r.room+"/") {
			return r.room
		}
	}
	return ""
}

func TestImportsGoDown(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		folder := path.Clean(strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "../"))
		if d.IsDir() {
			base := d.Name()
			if base != ".." && strings.HasPrefix(base, ".") || base == "testdata" || base == "interop" || base == "integrations" {
				return filepath.SkipDir // nested modules have plans of their own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		from := roomOf(folder)
		if from == "" {
			t.Errorf("%s: in no room of the house", name)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if imported == "C" && from != "hid" && from != "nfc" && from != "examples" {
				t.Errorf("%s uses cgo", name)
			}
			target, ok := strings.CutPrefix(imported, module+"/")
			if !ok {
				continue
			}
			to := roomOf(target)
			if to == from && from != "ctap2" || slices.Contains(mayImport[indexOf(from)].may, to) || from == "examples" {
				continue
			}
			t.Errorf("%s: %s may not import %s", name, from, target)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 30 {
		t.Errorf("looked at %d files only", files)
	}
}

func indexOf(room string) int {
	for i, r := range mayImport {
		if r.room == room {
			return i
		}
	}
	return -1
}

// The top level is the one that people see first.
func TestTopLevel(t *testing.T) {
	entries, err := filepath.Glob("../*")
	if err != nil {
		t.Fatal(err)
	}
	allowed := strings.Fields("ctap2 hid nfc cose pin examples internal go.mod go.sum LICENSE README.md")
	for _, e := range entries {
		if base := filepath.Base(e); !strings.HasPrefix(base, ".") && !slices.Contains(allowed, base) {
			t.Errorf("%s does not belong to the top level", base)
		}
	}
}

// What a user of a package sees: each public package has a guide with a
// runnable example, and each exported name says what it is.
func TestDocumentation(t *testing.T) {
	packages := make(map[string][]*ast.File) // by folder
	examples := make(map[string]bool)
	fset := token.NewFileSet()
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		folder := path.Clean(strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "../"))
		if d.IsDir() {
			if base := d.Name(); base != ".." && strings.HasPrefix(base, ".") || base == "testdata" || base == "internal" || base == "examples" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(name, "_test.go") {
			packages[folder] = append(packages[folder], file)
			return nil
		}
		for _, e := range doc.Examples(file) {
			examples[folder] = examples[folder] || e.Output != "" || e.EmptyOutput
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 8 {
		t.Errorf("looked at %d packages only", len(packages))
	}
	for folder, files := range packages {
		guide := ""
		for _, file := range files {
			guide += file.Doc.Text()
			for _, decl := range file.Decls {
				undocumented(decl, func(name string) { t.Errorf("%s: %s has no comment", folder, name) })
			}
		}
		if len(guide) < 200 {
			t.Errorf("%s: no guide", folder)
		}
		if !examples[folder] {
			t.Errorf("%s: no example that runs", folder)
		}
	}
}

// undocumented reports the exported names of a declaration without a comment of
// their own or of their group.
func undocumented(decl ast.Decl, report func(name string)) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv != nil {
			receiver := decl.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			if name, ok := receiver.(*ast.Ident); ok && !name.IsExported() {
				return // an interface says what it does
			}
		}
		if decl.Name.IsExported() && decl.Doc.Text() == "" {
			report(decl.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && decl.Doc.Text() == "" && spec.Doc.Text() == "" {
					report(spec.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() && decl.Doc.Text() == "" && spec.Doc.Text() == "" && spec.Comment.Text() == "" {
						report(name.Name)
					}
				}
			}
		}
	}
}
