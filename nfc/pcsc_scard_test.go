//go:build windows || (darwin && cgo) || ((linux || freebsd) && !android && pcsclite && cgo)

package nfc

import "github.com/ebfe/scard"

// resetCard ends a connection with a reset of the card.
func resetCard(h pcscHandle) error { return code(h.(*scardHandle).card.Disconnect(scard.ResetCard)) }
