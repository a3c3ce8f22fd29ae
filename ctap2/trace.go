package ctap2

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// Trace returns a Transport that carries messages over t and logs each exchange
// at slog.LevelDebug: one record with the message "exchange" and the attributes
//
//	command     the specification's name, such as authenticatorClientPIN
//	subcommand  such as getKeyAgreement, where there is one
//	request     the parameters, where there are any
//	keepalives  what the key said of itself meanwhile, without repetitions
//	status      the status by its name, such as PIN_INVALID
//	reply       the rest of the reply, where there is any
//	error       the transport's, in place of a reply
//	duration    until the reply or the error
//
// Requests and replies are in CBOR diagnostic notation (RFC 8949 §8), with the
// names of members, numbers and parts in comments:
//
//	{1 /pinUvAuthProtocol/: 2, 2 /subCommand/: 2 /getKeyAgreement/}
//
// What is not CBOR as CTAP has it is shown in hexadecimal, 128 bytes at most,
// with the error. So are U2F messages, with the status word as status; they are
// traced if t is a [Messenger], and only then is the Transport returned one.
// Whatever else t can do is found through [As], and is not traced.
//
// No secret is logged, encrypted or not: PINs, tokens, what proves that somebody
// has them, salts and outputs of hmac-secret, largeBlobKey, what is stored with
// credBlob, largeBlob and in the large-blob array. Nor are names and IDs of
// accounts and names of fingerprints, unless ShowAccounts is given, nor any
// string where this package does not know what it is, as in the messages of
// vendors. Each is replaced by its length, redacted(32) for one, and by zeros in
// hexadecimal. Numbers and the keys of maps are always logged, and so are RP
// IDs, credential IDs, public keys, certificates and signatures.
//
// Command bytes 0x40 and 0x41, which are in the vendors' range, are taken for the
// previews of authenticatorBioEnrollment and authenticatorCredentialManagement:
// a vendor's message there that has the number of one of their subcommands is
// logged as theirs would be.
//
// While the logger is off at that level, a trace costs nothing. A nil logger is
// always off.
func Trace(t Transport, logger *slog.Logger, options ...TraceOption) Transport {
	if logger == nil {
		return t
	}
	l := &tracer{logger: logger}
	for _, o := range options {
		o(l)
	}
	return tapped(t, l)
}

// A TraceOption changes what Trace logs.
type TraceOption func(*tracer)

// ShowAccounts has Trace log the names and IDs of accounts, and the names of
// fingerprints.
func ShowAccounts() TraceOption { return func(t *tracer) { t.style = accounts } }

// A tracer is the listener of Trace.
type tracer struct {
	logger *slog.Logger
	style  style
}

func (t *tracer) listens(ctx context.Context) bool { return t.logger.Enabled(ctx, slog.LevelDebug) }

func (t *tracer) closed(err error) error { return err }

func (t *tracer) heard(ctx context.Context, e *exchange) {
	attrs := []slog.Attr{slog.String("command", e.command())}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("subcommand", e.subcommand())
	request, _ := e.describeRequest(t.style)
	add("request", request)
	add("keepalives", e.keepalives.String())
	add("status", e.status())
	reply, _ := e.describeReply(t.style)
	add("reply", reply)
	if e.err != nil {
		attrs = append(attrs, slog.Any("error", e.err))
	}
	attrs = append(attrs, slog.Duration("duration", e.duration))
	t.logger.LogAttrs(ctx, slog.LevelDebug, "exchange", attrs...)
}

// A listener hears what goes through a tap.
type listener interface {
	listens(ctx context.Context) bool
	heard(ctx context.Context, e *exchange)
	// closed is told how the Transport closed, and returns how the tap does.
	closed(err error) error
}

// A tap is a Transport around another, with a listener.
type tap struct {
	transport Transport
	listener  listener
}

// messageTap is the tap of a Messenger. A tap of something else must not have
// its method.
type messageTap struct {
	*tap
	messenger Messenger
}

func tapped(t Transport, l listener) Transport {
	if m, ok := As[Messenger](t); ok {
		return &messageTap{&tap{t, l}, m}
	}
	return &tap{t, l}
}

func (t *tap) Unwrap() Transport { return t.transport }

func (t *tap) Close() error { return t.listener.closed(t.transport.Close()) }

func (t *tap) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if len(message) == 0 || !t.listener.listens(ctx) {
		return t.transport.Exchange(ctx, message, status)
	}
	e := &exchange{message: message}
	start := time.Now()
	e.reply, e.err = t.transport.Exchange(ctx, message, e.keepalives.hear(status))
	e.duration = time.Since(start)
	t.listener.heard(ctx, e)
	return e.reply, e.err
}

func (t *messageTap) Msg(ctx context.Context, apdu []byte) ([]byte, error) {
	if len(apdu) < u2fHeader || !t.listener.listens(ctx) {
		return t.messenger.Msg(ctx, apdu)
	}
	e := &exchange{u2f: true, message: apdu}
	start := time.Now()
	e.reply, e.err = t.messenger.Msg(ctx, apdu)
	e.duration = time.Since(start)
	t.listener.heard(ctx, e)
	return e.reply, e.err
}

// u2fHeader is the length of CLA, INS, P1 and P2, which every U2F request has.
const u2fHeader = 4

// An exchange is one message, not empty, and what became of it.
type exchange struct {
	u2f        bool
	message    []byte
	keepalives keepalives
	reply      []byte
	err        error
	duration   time.Duration
}

// command returns the name of the command or instruction.
func (e *exchange) command() string {
	switch command := e.message[0]; {
	case e.u2f:
	case command != published(command): // it has the other's name
		return fmt.Sprintf("%s (%#02x)", commandName(command, 0), command)
	default:
		return commandName(command, 0)
	}
	if name, known := u2fNames[[2]byte(e.message)]; known {
		return name
	}
	return fmt.Sprintf("U2F instruction 0x%02X", e.message[1])
}

// u2fNames are the names of instructions, by class and instruction.
var u2fNames = map[[2]byte]string{
	{0, u2fInsRegister}:     "U2F_REGISTER",
	{0, u2fInsAuthenticate}: "U2F_AUTHENTICATE",
	{0, u2fInsVersion}:      "U2F_VERSION",
}

// subcommand returns the name of the subcommand, empty if there is none.
func (e *exchange) subcommand() string {
	if e.u2f {
		return ""
	}
	return subcommandName(e.message[0], int64(subcommandOf(e.message)))
}

// status returns that of the reply, empty if there is none.
func (e *exchange) status() string {
	switch n := len(e.reply); {
	case n == 0:
		return ""
	case e.u2f:
		return fmt.Sprintf("%X", e.reply[max(0, n-2):])
	}
	return Status(e.reply[0]).String()
}

// describeRequest returns a text for the request, without its command byte, and
// a copy of it, with its command byte, in which is overwritten what the text
// leaves out.
func (e *exchange) describeRequest(style style) (text string, overwritten []byte) {
	if e.u2f {
		return e.describeU2F(e.message, u2fHeader, len(e.message))
	}
	request, _ := shapes(e.message[0], subcommandOf(e.message))
	text, overwritten = describe(e.message[0], e.message[1:], request, style)
	return text, slices.Concat(e.message[:1], overwritten)
}

// describeReply does the same for the reply and its status.
func (e *exchange) describeReply(style style) (text string, overwritten []byte) {
	switch n := len(e.reply); {
	case n == 0:
		return "", nil
	case e.u2f:
		return e.describeU2F(e.reply, 0, max(0, n-2))
	}
	_, reply := shapes(e.message[0], subcommandOf(e.message))
	text, overwritten = describe(e.message[0], e.reply[1:], reply, style)
	return text, slices.Concat(e.reply[:1], overwritten)
}

// describeU2F shows a message, since U2F has no secrets: whole if it is one of
// U2F's, and without what is between from and to if it is a vendor's.
func (e *exchange) describeU2F(message []byte, from, to int) (text string, overwritten []byte) {
	s := &scribe{data: slices.Clone(message)}
	if _, known := u2fNames[[2]byte(e.message)]; known {
		from = to
	}
	if from > 0 {
		s.part(from, "")
	}
	if from < to {
		s.space()
		s.redact(s.data[from:to], majorBytes)
	}
	return string(s.text), s.data
}

// keepalives are the statuses heard during one exchange, without repetitions.
// A key can send them for ever: only the first are kept.
type keepalives []byte

func (k *keepalives) hear(next func(byte)) func(byte) {
	const most = 64
	return func(status byte) {
		if n := len(*k); n == 0 || n < most && (*k)[n-1] != status {
			*k = append(*k, status)
		}
		if next != nil {
			next(status)
		}
	}
}

func (k keepalives) String() string {
	var names []string
	for _, status := range k {
		switch status {
		case ctap.KeepaliveProcessing:
			names = append(names, "PROCESSING")
		case ctap.KeepaliveUPNeeded:
			names = append(names, "UPNEEDED")
		default:
			names = append(names, fmt.Sprintf("%#02x", status))
		}
	}
	return strings.Join(names, " ")
}
