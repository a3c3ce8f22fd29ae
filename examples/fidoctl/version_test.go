package main

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	var r versionResult
	script(t, "", &r, "--version")
	if r.Version == "" || r.Go != runtime.Version() {
		t.Errorf("%+v", r)
	}
	if r := pipe(t, "", "", "--version"); r.code != 0 || !strings.HasPrefix(r.out, "fidoctl ") || !strings.HasSuffix(r.out, ", "+runtime.Version()+"\n") {
		t.Errorf("%+v", r)
	}
	built := debug.BuildInfo{GoVersion: "go1.25.0", Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abcd"}, {Key: "vcs.modified", Value: "true"}}}
	if got := versionOf(&built); got != (versionResult{"v1.2.3", "0123abcd", true, "go1.25.0"}) {
		t.Errorf("%+v", got)
	}
}
