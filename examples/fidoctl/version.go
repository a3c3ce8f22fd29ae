package main

import "runtime/debug"

// versionResult is what Go has noted of how fidoctl was built.
type versionResult struct {
	Version  string `json:"version" doc:"(devel) if it was built from a folder, not a release"`
	Commit   string `json:"commit,omitempty" doc:"that it was built from"`
	Modified bool   `json:"modified,omitempty" doc:"there were changes since that commit"`
	Go       string `json:"go" doc:"the version of Go"`
}

func (r versionResult) text(w *printer) {
	w.printf("fidoctl %s", r.Version)
	if r.Commit != "" {
		w.printf(", commit %s", r.Commit)
	}
	if r.Modified {
		w.printf(" with changes")
	}
	w.printf(", %s\n", r.Go)
}

func versionOf(info *debug.BuildInfo) versionResult {
	r := versionResult{Version: info.Main.Version, Go: info.GoVersion}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			r.Commit = s.Value
		case "vcs.modified":
			r.Modified = s.Value == "true"
		}
	}
	if r.Version == "" {
		r.Version = "(devel)"
	}
	return r
}
