// Package nfc speaks the protocol that carries CTAP messages to authenticators
// as smart cards do it (CTAP 2.3 §11.3): over NFC, or in a smart card reader.
// It finds and opens the cards that this machine reaches through PC/SC.
//
// [Readers] lists the readers, [Open] opens the card in one of them:
//
//	readers, err := nfc.Readers(ctx)
//	...
//	dev, err := nfc.Open(ctx, readers[0].Name)
//	...
//	defer dev.Close()
//
// [OpenFirst] looks for the first FIDO card in all readers, and [Watch] tells
// when cards come and go.
//
// A [Device] is what ctap2.Open wants. Most programs need nothing else from
// this package, and never see the bytes of an exchange:
//
//	key, err := ctap2.Open(ctx, dev)
//
// # Messages
//
// [Device.Exchange] carries CTAP2 messages and [Device.Msg] the older U2F ones.
// Each sends one message and returns the one answer. Exchanges of one Device
// run one after the other, whatever goroutines they come from. Each is a
// transaction of PC/SC: other programs can reach the card between two exchanges
// and not during one. No transaction is open between exchanges, where Windows
// would reset the card after five seconds.
//
// A message that is longer than a short APDU goes to the card as one APDU of
// extended length. If the reader or the card does not take that, it is sent
// again as a chain of short ones, and so are all later ones of this Device. Some
// readers only say that they failed, as they do when a response is lost on the
// way: then, too, the message is sent again, and so it may be carried out twice,
// unless this Device has had an answer to one that was as long.
// Neither T=0 nor T=1, nor the parts in which a response arrives, are the
// caller's concern.
//
// # The end of a wait
//
// No call outlives its context for long, although nothing can interrupt a
// reader that waits for a card. The card is called from a goroutine, one at a
// time for each Device, that the end of a context leaves behind: it ends when
// the reader returns, which is at the latest when the card is taken away. The
// next exchange waits for it, drops the response that came too late, and
// selects the application anew.
//
// When the context of an Exchange ends, a card that knows
// NFCCTAP_GETRESPONSE is told to cancel. Any card has [CancelTimeout] to say how
// far it came.
//
// A card that falls silent ends in [ErrNoAnswer], with any context: after
// [AnswerTimeout] without a response. While a card says that it waits for a
// touch, only the context ends a call: give it a deadline.
//
// # What a card may do wrong
//
// Nothing that a card sends makes a call panic, wait without a bound, or use
// more memory than the largest answer has bytes, 65536. What breaks the rules
// is [ErrMalformed].
//
// A card that was reset, or on which another program selected another
// application, has forgotten what was agreed with it. The Device selects the
// FIDO application again and says [ErrReset]: a PIN/UV token is to be fetched
// anew. A message is sent again in the same call only if it rests on nothing
// that the card may have forgotten.
//
// # Errors
//
// A [StatusWord] is what a card says at the end of a response, if it is not
// success. CTAP statuses are no errors here: they are in the answers, for
// package ctap2 to read. All errors work with errors.Is and carry their causes:
//
//	switch {
//	case errors.Is(err, nfc.ErrNoService): // no PC/SC, or its service does not run
//	case errors.Is(err, nfc.ErrNoReader): // no reader, or none of that name
//	case errors.Is(err, nfc.ErrNoCard): // the reader is empty
//	case errors.Is(err, nfc.ErrNotFIDO): // a card of another kind
//	case errors.Is(err, nfc.ErrDeviceGone): // taken away
//	case errors.Is(err, nfc.ErrReset): // its tokens are gone, try again
//	case errors.Is(err, context.DeadlineExceeded): // nobody touched it
//	}
//
// Some USB keys have a smart card interface next to their HID interface and
// refuse FIDO there: to this package such a key is a reader whose card is
// [ErrNotFIDO], and package hid reaches it.
//
// # Other ways to a card
//
// [New] takes any [Card] that carries APDUs: a simulator, a card at the end of
// a network, the NFC interface of a phone.
//
// # Platforms
//
// On Linux the library of pcsc-lite, libpcsclite.so.1, is loaded when it is
// first needed, so that nothing but Go is needed to build. A machine without it,
// or without a running pcscd, gets [ErrNoService]. The price is that a program
// with this package in it is dynamically linked against the system's C library,
// even without cgo. With cgo and the build tag pcsclite, the library is linked
// when the program is built; that is the only way on FreeBSD.
//
// On Windows the system's own PC/SC is used, and on macOS that of the system's
// framework, linked with cgo and loaded without. All other builds refuse with
// [ErrUnsupported].
package nfc
