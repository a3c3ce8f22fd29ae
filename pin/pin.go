// Package pin is the cryptography and the rules of PIN/UV auth (CTAP 2.3
// §6.5): protocols one and two, for the platform and for the authenticator,
// what a PIN may look like, and a type for secrets that cannot be printed.
//
// Programs that use a key rarely call it themselves: package ctap2 obtains
// tokens. They meet it as [Secret], in which PINs go in and hmac-secret
// outputs come out:
//
//	newPIN := pin.NewSecret(line)
//	defer newPIN.Wipe()
//	err := key.SetPIN(ctx, newPIN)
//
// Authors of authenticators and of test harnesses find both halves of key
// agreement here. The platform calls [Protocol.Encapsulate] with the key that
// getKeyAgreement returned; the authenticator calls [KeyAgreement.Decapsulate]
// with the one that came back; both hold the same [SharedSecret].
package pin
