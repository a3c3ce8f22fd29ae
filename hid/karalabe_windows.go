//go:build cgo

package hid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"unsafe"

	karalabe "github.com/karalabe/hid"

	"github.com/tapstone/fido/internal/ctap"
)

func open(ctx context.Context, path string) (Conn, Option, error) { return openHidapi(ctx, path) }

func newChanges() changes { return newTicker() }

// authenticator goes by the usage page. hidapi keeps the lengths of reports to
// itself: all known authenticators have those of §11.2.8.1, and the system
// pads what is shorter.
func authenticator(device karalabe.DeviceInfo) (layout reportLayout, instance string, err error) {
	if device.UsagePage != ctap.HIDUsagePage || device.Usage != ctap.HIDUsage {
		err = errNotFIDO
	}
	return reportLayout{in: ctap.HIDReportSize, out: ctap.HIDReportSize}, device.Path, err
}

func complete(*Info) {}

// errNotElevated: since version 1903 Windows keeps authenticators for itself.
var errNotElevated = fmt.Errorf("%w: Windows shows authenticators to administrators only: run the program as administrator, or use the system's WebAuthn API", fs.ErrPermission)

// whyNone tells a machine without authenticators from a program that cannot
// see them.
func whyNone() error {
	if elevated() {
		return nil
	}
	return errNotElevated
}

// elevated reports whether the process has administrator rights.
func elevated() bool {
	const tokenElevation = 20
	token, err := syscall.OpenCurrentProcessToken()
	if err != nil {
		return false
	}
	defer token.Close()
	var is, length uint32
	err = syscall.GetTokenInformation(token, tokenElevation, (*byte)(unsafe.Pointer(&is)), uint32(unsafe.Sizeof(is)), &length)
	return err == nil && is != 0
}

// mayOpen opens the device to see the system's error, which hidapi hides: it
// opens a device without the right to read and write instead, for which every
// exchange then fails.
func mayOpen(_ context.Context, device karalabe.DeviceInfo) error {
	path, err := syscall.UTF16PtrFromString(device.Path)
	if err != nil {
		return err
	}
	handle, err := syscall.CreateFile(path, syscall.GENERIC_READ|syscall.GENERIC_WRITE,
		syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE, nil, syscall.OPEN_EXISTING, syscall.FILE_FLAG_OVERLAPPED, 0)
	switch {
	case err == nil:
		return syscall.CloseHandle(handle)
	case errors.Is(err, fs.ErrPermission) && !elevated():
		err = fmt.Errorf("%w (%w)", errNotElevated, err)
	}
	return &fs.PathError{Op: "open", Path: device.Path, Err: err}
}

func openDevice(device karalabe.DeviceInfo) (hidapiDevice, error) {
	opened, err := device.Open()
	if err != nil {
		return nil, err
	}
	return windowsDevice{opened}, nil
}

type windowsDevice struct{ karalabe.Device }

// Write leaves the report ID out, because the library puts a 0 in front on
// this system alone. A write that the system has finished at once is an error
// for hidapi, with the text of the error code for none.
func (d windowsDevice) Write(b []byte) (int, error) {
	n, err := d.Device.Write(b[1:])
	if err != nil && err.Error() == "hidapi: Success" {
		return len(b), nil
	}
	return n + 1, err
}
