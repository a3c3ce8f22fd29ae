package main

import (
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
)

// unsteady is what differs each time.
var unsteady = regexp.MustCompile(`[0-9a-f]{64}|(?m)^/.*key\.json`)

func TestInfo(t *testing.T) {
	key := newKey(t, testPIN)
	r := pipe(t, key, "", "info")
	if r.code != 0 {
		t.Errorf("%+v", r)
	}
	golden(t, "info.txt", unsteady.ReplaceAllString(r.out, "…"))
	s := person(t, key, "info")
	s.sees("\x1b[1mOptions")
	s.sees("clientPin")
	s.sees("a PIN is set")
	s.ends(0)
	for _, profile := range virtual.Profiles() {
		var i infoResult
		script(t, key+profile.String(), &i, "--virtual-profile", profile.String(), "info")
		if i.AAGUID != profile.Config().AAGUID || len(i.Versions) == 0 {
			t.Errorf("%v: %+v", profile, i)
		}
	}
}

// Of a key that only speaks U2F there is less to tell.
func TestInfoU2F(t *testing.T) {
	t.Parallel()
	r := pipe(t, filepath.Join(t.TempDir(), "key.json"), "", "--virtual-profile", "u2f", "info")
	_, told, _ := strings.Cut(r.out, "speaks") // behind the AAGUID
	for _, absent := range []string{" 0", "PIN", "messages", "Reset", "Other"} {
		if r.code != 0 || strings.Contains(told, absent) {
			t.Errorf("%q in %+v", absent, r)
		}
	}
	if strings.Contains(r.out, "firmware") || !strings.Contains(r.out, "\nRoom\n  lists have ") {
		t.Errorf("%+v", r)
	}
}

// Info tells all that the library knows: each member, and each option in words.
func TestInfoIsWhole(t *testing.T) {
	all, told := reflect.TypeFor[ctap2.Info](), reflect.TypeFor[infoResult]()
	for i := range all.NumField() {
		if name := all.Field(i).Name; name != "Raw" {
			if _, ok := told.FieldByName(name); !ok {
				t.Errorf("%s is not told", name)
			}
		}
	}
	device, err := virtual.New(virtual.ProfileCTAP23.Config())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ctap2.Open(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	for name := range key.Info().Options {
		if optionTexts[name] == [2]string{} {
			t.Errorf("option %s is not explained", name)
		}
	}
}
