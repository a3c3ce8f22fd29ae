//go:build (darwin && cgo) || ((linux || freebsd) && !android && pcsclite && cgo)

package nfc

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/ebfe/scard"
)

// Package scard keeps the name that it gives to SCardGetStatusChange from the
// garbage collector until it gets the same name again, and the library reads it
// for as long as it waits. Two that wait for one reader would have a name freed
// under their feet: so each waiter tells its names from those of the others
// with something behind the zero byte that ends them for the library.
var (
	markMu sync.Mutex
	marks  []bool // in use
)

type waiter struct {
	context *scard.Context
	mark    int
}

func (w *waiter) establish(context *scard.Context) error {
	markMu.Lock()
	defer markMu.Unlock()
	w.context = context
	for w.mark < len(marks) && marks[w.mark] {
		w.mark++
	}
	if w.mark == len(marks) {
		marks = append(marks, false)
	}
	marks[w.mark] = true
	return nil
}

func (w *waiter) release() {
	markMu.Lock()
	defer markMu.Unlock()
	marks[w.mark] = false
}

func (w *waiter) cancel() error { return code(w.context.Cancel()) }

func (w *waiter) wait(states []readerState, timeout time.Duration) error {
	all := make([]scard.ReaderState, len(states))
	for i, s := range states {
		all[i] = scard.ReaderState{Reader: fmt.Sprintf("%s\x00%d", s.name, w.mark), CurrentState: scard.StateFlag(s.known)}
	}
	if err := w.context.GetStatusChange(all, timeout); err != nil {
		return code(err)
	}
	for i := range all {
		states[i].flags, states[i].atr = uint32(all[i].EventState), all[i].Atr
	}
	return nil
}

// newsReader is the reader that changes when readers come and go. macOS has
// none.
var newsReader = map[bool]string{false: `\\?PnP?\Notification`}[runtime.GOOS == "darwin"]
