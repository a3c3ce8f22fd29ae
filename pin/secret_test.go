package pin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretPrintsAsNothing(t *testing.T) {
	const hidden = "correct horse"
	s := FromString(hidden)
	var out bytes.Buffer
	type outer struct {
		Exported   Secret
		unexported Secret
		Pointer    *Secret
		Nested     []Secret
		Map        map[string]Secret
	}
	o := outer{s, s, &s, []Secret{s}, map[string]Secret{"k": s}}
	for _, v := range []any{s, &s, o, &o, []any{s, o}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%t"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	log := slog.New(slog.NewTextHandler(&out, nil))
	log.Info("m", "s", s, "o", o)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "s", s, "p", &s)
	j, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	fmt.Fprintln(&out, s.String(), s.GoString())
	for _, form := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden), strings.Trim(fmt.Sprint([]byte(hidden)), "[]")} {
		if strings.Contains(out.String(), form) {
			t.Errorf("printed as %q", form)
		}
	}
	if !strings.Contains(out.String(), "[secret]") {
		t.Error("printed as nothing at all")
	}
	_ = o.unexported
}

func TestSecretWipe(t *testing.T) {
	b := []byte("1234")
	s := NewSecret(b)
	other := s
	clone := s.Clone()
	s.Wipe()
	if !bytes.Equal(b, make([]byte, 4)) {
		t.Error("bytes are still there")
	}
	if s.Len() != 0 || other.Bytes() != nil {
		t.Error("a copy keeps the bytes")
	}
	if string(clone.Bytes()) != "1234" {
		t.Error("the clone went along")
	}
	s.Wipe()
	Secret{}.Wipe()
	if (Secret{}).Clone().Len() != 0 || (Secret{}).Bytes() != nil {
		t.Error("the zero Secret is not empty")
	}
}

func TestSecretEqual(t *testing.T) {
	if !FromString("a").Equal(FromString("a")) || FromString("a").Equal(FromString("b")) || FromString("a").Equal(Secret{}) {
		t.Error("Equal")
	}
	if !(Secret{}).Equal(FromString("")) {
		t.Error("empty Secrets differ")
	}
}
