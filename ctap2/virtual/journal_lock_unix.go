//go:build unix && !aix && !solaris

package virtual

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// lockJournal locks a journal until the Closer is closed, or the process ends.
// The lock is on a file of its own, which stays: the journal's file is
// replaced from time to time, and a lock on it would go with it.
func lockJournal(path string) (io.Closer, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("journal: lock: %w", err)
	}
	return file, nil
}
