// Package hidtest is a security key for tests that does as it is told. It tests
// programs that use packages hid and ctap2 against devices that lose, repeat,
// delay or garble what they send, that answer too late or not at all, and that
// vanish. No hardware and no goroutine is involved, and all time is that of
// package time: within a bubble of testing/synctest nothing waits.
//
// A [Device] is a hid.Conn:
//
//	key := hidtest.New(nil)
//	dev, err := hid.New(ctx, key)
//
// This one does what the specification says. It gives channels away, and
// answers each CTAP message with status 0 and an echo, so that an answer tells
// what it answers.
//
// # Answers
//
// A [Handler] says how messages are answered. An [Answer] is a sequence of
// reports with the times between them, made from what is to be said and what
// goes wrong on the way. Reports are counted from 0:
//
//	key.Handle(func(m hidtest.Message) hidtest.Answer {
//		switch m.Command {
//		case hidtest.CommandCBOR:
//			return hidtest.Keepalive(1, 2).Then(hidtest.Success(reply)).Lose(3)
//		case hidtest.CommandCancel:
//			return hidtest.Status(0x2D) // KEEPALIVE_CANCEL
//		}
//		return hidtest.Default()
//	})
//
// [Device.Send] sends what no message asked for. [Device.Intercept] spoils
// the other direction, from the host to the device.
//
// # Scripts
//
// A test of a program that uses ctap2 knows which commands come, in which
// order. [Script] is the Handler for it. Another command than the one that is
// due fails the test, and so does one that never comes:
//
//	key := hidtest.New(hidtest.Script(t,
//		hidtest.Step{Command: 0x04, Answer: hidtest.Success(info)},
//		hidtest.Step{Command: 0x01, Answer: hidtest.Success(credential).Insert(2, hidtest.Unplug())},
//	))
//
// # What it does not do
//
// It holds no credentials and knows no CBOR: package ctap2/virtual is the
// authenticator for tests in which nothing goes wrong.
package hidtest
