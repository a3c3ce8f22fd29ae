package main

import (
	"syscall"
	"unsafe"
)

var getHandleInformation = syscall.NewLazyDLL("kernel32.dll").NewProc("GetHandleInformation")

// inherited reports whether a handle is open, and came from whoever started the
// program. Handles that Go opens cannot be inherited; one that was can be.
func inherited(handle uintptr) bool {
	var flags uint32
	ok, _, _ := getHandleInformation.Call(handle, uintptr(unsafe.Pointer(&flags)))
	return ok != 0 && flags&syscall.HANDLE_FLAG_INHERIT != 0
}
