//go:build cgo && ((darwin && !ios) || freebsd || windows || (linux && libusb))

package hid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	karalabe "github.com/karalabe/hid"
)

var errInUse = errors.New("in use by another program")

func attachments(ctx context.Context) ([]attachment, error) {
	devices, err := karalabe.Enumerate(0, 0)
	if err != nil {
		return nil, err
	}
	var found []attachment
	for _, device := range devices {
		if err := ended(ctx); err != nil {
			return nil, err
		}
		layout, instance, err := authenticator(device)
		if err != nil {
			continue
		}
		info := Info{
			Path:         device.Path,
			VendorID:     device.VendorID,
			ProductID:    device.ProductID,
			Manufacturer: printable(device.Manufacturer),
			Product:      printable(device.Product),
			Serial:       printable(device.Serial),
			InputReport:  layout.in,
			OutputReport: layout.out,
		}
		complete(&info)
		found = append(found, attachment{info, instance})
	}
	if len(found) == 0 {
		return nil, whyNone()
	}
	return found, nil
}

func openHidapi(ctx context.Context, path string) (Conn, Option, error) {
	devices, err := karalabe.Enumerate(0, 0)
	if err != nil {
		return nil, nil, err
	}
	err = fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
	for _, device := range devices {
		if device.Path != path {
			continue
		}
		// A path can stand for several collections of one interface.
		layout, _, not := authenticator(device)
		if not != nil {
			if !errors.Is(not, errInUse) {
				not = fmt.Errorf("%w: %w", ErrUnsupported, not)
			}
			err = fmt.Errorf("open %s: %w", path, not)
			continue
		}
		if err := mayOpen(ctx, device); err != nil {
			return nil, nil, err
		}
		opened, err := openDevice(device)
		if err != nil {
			// The library does not say why.
			return nil, nil, fmt.Errorf("open %s: %w, or pulled out, or not permitted: %w", path, errInUse, err)
		}
		return newHidapi(opened, layout), WithReportSizes(layout.in, layout.out), nil
	}
	if none := whyNone(); none != nil {
		err = fmt.Errorf("open %s: %w", path, none)
	}
	return nil, nil, err
}
