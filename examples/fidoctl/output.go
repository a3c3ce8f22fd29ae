package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

// A result is what a command has found out or done: for scripts the value
// itself, in JSON, for people what text prints. Members are added to results,
// and never renamed or removed: scripts rely on them.
type result interface{ text(w *printer) }

// show writes a result to standard output.
func (p *program) show(r result) {
	if !p.json {
		r.text(p.out)
		return
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(r) // all results are JSON
	text := strings.TrimSuffix(line.String(), "\n")
	if p.out.terminal {
		text = escaped(text)
	}
	io.WriteString(p.out, text+"\n")
}

// escaped is JSON that cannot steer a terminal: encoding/json leaves what is
// beyond ASCII as it is. Outside strings there is nothing to escape.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// hexBytes are bytes in hexadecimal, as people compare and copy them.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }
func (b hexBytes) String() string               { return hex.EncodeToString(b) }

// orEmpty is a list that is [] in JSON, not null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// short is how a long ID is shown where the beginning tells it from others.
func (b hexBytes) short() string {
	if len(b) > 8 {
		return hexBytes(b[:8]).String() + "…"
	}
	return b.String()
}

// done is the result of commands that change something and have nothing else to
// say.
type done struct {
	Done string `json:"done" doc:"what was done"`
}

func (d done) text(w *printer) { w.in(green, "%s\n", d.Done) }

type errorResult struct {
	Error errorText `json:"error"`
}

type errorText struct {
	Kind      string `json:"kind" doc:"the name of the exit status ('fidoctl help exit-codes')"`
	Exit      int    `json:"exit" doc:"the exit status"`
	What      string `json:"what" doc:"what happened, for people"`
	Means     string `json:"means,omitempty" doc:"what that means"`
	Next      string `json:"next,omitempty" doc:"what to do next"`
	Status    string `json:"status,omitempty" doc:"the key's answer by its name in the specification, such as PIN_INVALID"`
	TriesLeft *int   `json:"triesLeft,omitempty" doc:"wrong PINs that can be entered before only a reset helps"`
	Detail    string `json:"detail" doc:"the error as the library has it"`
}

func (r errorResult) text(w *printer) {
	e := r.Error
	w.in(red, "%s\n", e.What)
	for _, line := range []string{e.Means, e.Next} {
		if line != "" {
			w.printf("  %s\n", line)
		}
	}
	// The detail may be what was said already, but not where a reason follows it.
	if said := strings.TrimSuffix(e.What, "."); e.Exit != interrupted.exit && !strings.HasSuffix(strings.TrimSuffix(e.Detail, "."), said[min(1, len(said)):]) {
		w.in(faint, "  (%s)\n", e.Detail)
	}
}

type keyResult struct {
	Name         string       `json:"name" doc:"for --device: the path, or the reader's name; the file of a software key"`
	Transport    string       `json:"transport" doc:"usb, bluetooth, virtual or nfc"`
	Manufacturer string       `json:"manufacturer,omitempty"`
	Product      string       `json:"product,omitempty"`
	VendorID     uint16       `json:"vendorId,omitempty" doc:"on USB"`
	ProductID    uint16       `json:"productId,omitempty" doc:"on USB"`
	Serial       string       `json:"serial,omitempty" doc:"for --device as well"`
	AAGUID       ctap2.AAGUID `json:"aaguid" doc:"the model; all zeros for a key that only speaks U2F, or that could not be opened"`
	Versions     []string     `json:"versions"`
	PIN          string       `json:"pin" doc:"unsupported, not set, set, to be changed, locked or blocked"`
	TriesLeft    *int         `json:"triesLeft,omitempty" doc:"if a PIN is set"`
	Fingerprints string       `json:"fingerprints" doc:"unsupported, none or enrolled"`
	Error        *errorText   `json:"error,omitempty" doc:"why it could not be opened, as below"`
}

// outputs are all values that --json can write, and the commands that do.
var outputs = []struct {
	value    result
	commands []string
}{
	{listResult{}, []string{"list"}},
	{infoResult{}, []string{"info"}},
	{triesResult{}, []string{"pin tries"}},
	{fingerprintResult{}, []string{"fingerprint add"}},
	{fingerprintsResult{}, []string{"fingerprint list"}},
	{credentialsResult{}, []string{"credentials list"}},
	{credentialResult{}, []string{"credentials show"}},
	{deletedResult{}, []string{"credentials delete"}},
	{blobsResult{}, []string{"blob list"}},
	{blobResult{}, []string{"blob get"}},
	{policyResult{}, []string{"policy"}},
	{registerResult{}, []string{"register"}},
	{signinResult{}, []string{"signin"}},
	{verifyResult{}, []string{"verify"}},
	{secretResult{}, []string{"secret"}},
	{compatibleResult{}, []string{"entra check"}},
	{provisionedResult{}, []string{"entra provision", "entra deprovision"}},
	{entraMethodsResult{}, []string{"entra keys"}},
	{runEvent{}, []string{"conformance"}},
	{casesResult{}, []string{"conformance --list"}},
	{compareResult{}, []string{"conformance compare"}},
	{eventResult{}, []string{"watch"}},
	{rulesResult{}, []string{"udev-rules"}},
	{versionResult{}, []string{"--version"}},
	{done{}, []string{"pin set", "pin change", "pin check", "fingerprint rename", "fingerprint remove", "credentials rename", "blob get --out", "blob put",
		"blob delete", "blob clean", "config always-uv", "config min-pin-length", "config force-pin-change", "config pin-complexity",
		"config enterprise-attestation", "config long-touch", "reset", "entra rename"}},
	{errorResult{}, []string{"whatever fails"}},
}

// jsonHelp is the help that documents the outputs, from the types themselves.
func jsonHelp() *cobra.Command {
	var b strings.Builder
	b.WriteString(`With --json, standard output gets one value per line: one for most commands,
one for each event for "watch" and "conformance". Bytes are hexadecimal
strings, unless it says otherwise. Members may be added, but are not renamed
or removed. "?" marks those that may be missing. If a command fails, the last
value is an error, unless "policy", "entra check", "entra provision" or
"entra deprovision" has written a result, or "conformance" an event
"end": these say themselves what failed.`)
	for _, o := range outputs {
		b.WriteString("\n\n")
		for i, c := range o.commands {
			switch {
			case i > 0 && i%4 == 0:
				b.WriteString(",\n")
			case i > 0:
				b.WriteString(", ")
			}
			b.WriteString(c)
		}
		if documented, ok := o.value.(interface{ members() string }); ok {
			b.WriteString(documented.members())
		} else {
			describe(&b, reflect.TypeOf(o.value), "  ")
		}
	}
	return &cobra.Command{Use: "json", Short: "What --json writes", Long: strings.TrimRight(b.String(), "\n")}
}

// describe lists the members of an object.
func describe(b *strings.Builder, t reflect.Type, indent string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			describe(b, f.Type, indent)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if strings.Contains(options, "omit") {
			name += "?"
		}
		kind, inner := jsonType(f.Type)
		line := fmt.Sprintf("\n%s%-*s %-9s %s", indent, 35-len(indent), name, kind, f.Tag.Get("doc"))
		b.WriteString(strings.TrimRight(line, " "))
		if inner != nil && !strings.HasPrefix(f.Tag.Get("doc"), "as ") && f.Type != reflect.TypeFor[*errorText]() {
			describe(b, inner, indent+"  ")
		}
	}
}

// jsonType returns what a type is in JSON, and the object that it holds, if any.
func jsonType(t reflect.Type) (kind string, object reflect.Type) {
	if t.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()) {
		return "string", nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return jsonType(t.Elem())
	case reflect.Slice:
		if t == reflect.TypeFor[json.RawMessage]() {
			return "object", nil
		}
		if t.Elem().Kind() == reflect.Uint8 {
			return "string", nil
		}
		kind, object = jsonType(t.Elem())
		return kind + "[]", object
	case reflect.Struct:
		return "object", t
	case reflect.Map:
		return "object", nil
	case reflect.Bool:
		return "bool", nil
	case reflect.String:
		return "string", nil
	}
	return "number", nil
}
