//go:build !windows && !darwin && !(linux && !android && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64)) && !((linux || freebsd) && !android && pcsclite && cgo)

package nfc

import (
	"fmt"
	"runtime"
)

const newsReader = ""

func establishContext() (pcscContext, error) {
	return nil, fmt.Errorf("built without PC/SC for %s: %w", runtime.GOOS, ErrUnsupported)
}
