//go:build unix

package main

import "syscall"

// inherited reports whether a descriptor is open, and came from whoever started
// the program. All that Go opens is closed when another program is executed;
// what came that way cannot be.
func inherited(fd uintptr) bool {
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0)
	return errno == 0 && flags&syscall.FD_CLOEXEC == 0
}
