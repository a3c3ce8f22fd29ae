package ctap2

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// ErrNotRecorded: a request is not the one that the recording has next, or has
// at all. The text says which it has.
var ErrNotRecorded = errors.New("not as recorded")

// Record returns a Transport that carries messages over t and writes each
// exchange to w, so that [Play] can repeat the session where there is no key: a
// recording of a key that misbehaves makes a test. It is a [Messenger] if t is
// one; whatever else t can do is found through [As], and is not recorded.
//
// A recording is lines of JSON, each written at once. The first is
//
//	{"recording":"ctap2","version":1,"u2f":true}
//
// where u2f says that the Transport is a Messenger. Each further line is an
// exchange, with bytes in hexadecimal:
//
//	ctap        name of the command or subcommand, or
//	u2f         name of the instruction
//	request     the message as it was sent
//	keepalives  what the key said of itself meanwhile, without repetitions
//	reply       the message as it was received, or
//	error       "device gone", or another of this package's or package
//	            context's errors for transports, or "other"
//	detail      the error's text
//
// A recording holds no secrets. What [Trace] redacts is overwritten, with as
// many zeros or, in text, as many x, so that a message is as well formed as it
// was; in one that is not CBOR, also what stands behind the place where it
// cannot be read on. Vendors' messages under command bytes 0x40 and 0x41 can be
// taken for the previews', as Trace says. What a key has signed does not verify
// any longer if some of it was overwritten, such as an output of hmac-secret.
//
// What it does hold: the key's model, firmware, settings and counters; its
// attestation certificate, which names the very key if it is an enterprise
// attestation; which relying parties it has credentials for, with credential
// IDs and public keys; and signatures, each with the hash of the client data
// that it is for. Its texts of errors are those of the transport. Who records a
// sign-in to a real account finishes it before the recording is given away.
//
// If w fails, the session goes on and the recording ends; Close returns the
// error, besides that of t. With a nil w, nothing is recorded.
func Record(t Transport, w io.Writer) Transport {
	if w == nil {
		return t
	}
	_, u2f := As[Messenger](t)
	l := &recorder{w: w}
	l.write(recordingHeader{Recording: recordingFormat, Version: recordingVersion, U2F: u2f})
	return tapped(t, l)
}

const (
	recordingFormat  = "ctap2"
	recordingVersion = 1
)

// recordingHeader is the first line.
type recordingHeader struct {
	Recording string `json:"recording"`
	Version   int    `json:"version"`
	U2F       bool   `json:"u2f,omitempty"`
}

// recordedExchange is each further line.
type recordedExchange struct {
	CTAP       string `json:"ctap,omitempty"`
	U2F        string `json:"u2f,omitempty"`
	Request    octets `json:"request"`
	Keepalives octets `json:"keepalives,omitempty"`
	Reply      octets `json:"reply,omitempty"`
	Error      string `json:"error,omitempty"`
	Detail     string `json:"detail,omitempty"`
}

// octets are bytes in hexadecimal.
type octets []byte

func (o octets) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, o), nil }

func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = hex.AppendDecode(nil, text)
	return err
}

// recordedErrors are the errors that Play returns as what they were.
var recordedErrors = []error{ErrDeviceGone, ErrClosed, ErrMessageTooLarge, ErrNoAnswer, ErrReset, ErrUnsupported,
	context.Canceled, context.DeadlineExceeded}

// A recorder is the listener of Record.
type recorder struct {
	mu  sync.Mutex
	w   io.Writer
	err error // the first of w
}

func (r *recorder) listens(context.Context) bool { return true }

func (r *recorder) closed(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		err = errors.Join(err, fmt.Errorf("ctap2: recording: %w", r.err))
	}
	return err
}

func (r *recorder) heard(_ context.Context, e *exchange) {
	line := &recordedExchange{Keepalives: octets(e.keepalives)}
	if e.u2f {
		line.U2F = e.command()
	} else {
		line.CTAP = cmp.Or(e.subcommand(), e.command())
	}
	_, line.Request = e.describeRequest(discreet)
	_, line.Reply = e.describeReply(discreet)
	if e.err != nil {
		line.Error, line.Detail = "other", e.err.Error()
		for _, known := range recordedErrors {
			if errors.Is(e.err, known) {
				line.Error = known.Error()
				break
			}
		}
	}
	r.write(line)
}

// write writes a line, unless one could not be written before.
func (r *recorder) write(v any) {
	line, err := json.Marshal(v)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	if err == nil {
		_, err = r.w.Write(append(line, '\n'))
	}
	r.err = err
}

// Play returns a Transport that answers from a recording as the key did, error
// for error and keepalive for keepalive, without waiting:
//
//	player, err := ctap2.Play(file)
//	key, err := ctap2.Open(ctx, player, …)
//	_, err = key.GetAssertion(ctx, …) // what went wrong then goes wrong now
//
// Requests must come in the order of the recording, and be the same but for
// what differs from session to session: clientDataHash, the account, keys
// agreed on, whatever is encrypted or authenticated with them, and other
// secrets. A request that is not the next one is refused with [ErrNotRecorded].
//
// Since secrets were overwritten, a PIN is right or wrong as it was then,
// whatever is entered now; tokens and the outputs of hmac-secret are arbitrary;
// a large blob is not found; and a large-blob array that needed more than one
// fragment is read as a damaged one.
//
// Play reads r to its end, and refuses what is no recording, or a later
// version's with an error that wraps ErrUnsupported.
func Play(r io.Reader) (Transport, error) {
	const longest = 1 << 20 // room for two messages of 65536 bytes, and as much again
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longest)
	var header *recordingHeader
	p := new(player)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var err error
		if header == nil {
			header = new(recordingHeader)
			err = header.parse(line)
		} else {
			e := new(recordedExchange)
			err = e.parse(line)
			p.exchanges = append(p.exchanges, e)
		}
		if err != nil {
			return nil, fmt.Errorf("ctap2: recording, line %d: %w", n, err)
		}
	}
	switch err := lines.Err(); {
	case err != nil:
		return nil, fmt.Errorf("ctap2: recording: %w", err)
	case header == nil:
		return nil, fmt.Errorf("ctap2: recording: %w", io.ErrUnexpectedEOF)
	case header.U2F:
		return &messagePlayer{p}, nil
	}
	return p, nil
}

func (h *recordingHeader) parse(line []byte) error {
	if err := json.Unmarshal(line, h); err != nil {
		return err
	}
	switch {
	case h.Recording != recordingFormat:
		return errors.New("not the start of a recording")
	case h.Version != recordingVersion:
		return fmt.Errorf("version %d: %w", h.Version, ErrUnsupported)
	}
	return nil
}

func (e *recordedExchange) parse(line []byte) error {
	if err := json.Unmarshal(line, e); err != nil {
		return err
	}
	switch {
	case (e.CTAP == "") == (e.U2F == ""):
		return errors.New("neither ctap nor u2f, or both")
	case len(e.Request) == 0 || e.U2F != "" && len(e.Request) < u2fHeader:
		return fmt.Errorf("request of %d bytes", len(e.Request))
	}
	return nil
}

// A playedError is an error with the text that it had.
type playedError struct {
	text  string
	cause error // nil for one that is not among recordedErrors
}

func (e *playedError) Error() string { return e.text }

func (e *playedError) Unwrap() error { return e.cause }

type player struct {
	mu        sync.Mutex
	exchanges []*recordedExchange
	played    int
	closed    bool
}

// messagePlayer plays what a Messenger recorded.
type messagePlayer struct{ *player }

func (p *player) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

func (p *player) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if len(message) == 0 {
		return nil, fmt.Errorf("%w: an empty message", ErrNotRecorded)
	}
	return p.play(ctx, &exchange{message: message}, status)
}

func (p *messagePlayer) Msg(ctx context.Context, apdu []byte) ([]byte, error) {
	if len(apdu) < u2fHeader {
		return nil, fmt.Errorf("%w: an APDU of %d bytes", ErrNotRecorded, len(apdu))
	}
	return p.play(ctx, &exchange{u2f: true, message: apdu}, nil)
}

func (p *player) play(ctx context.Context, request *exchange, status func(byte)) ([]byte, error) {
	e, err := p.next(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, k := range e.Keepalives {
		if status != nil {
			status(k)
		}
	}
	if e.Error == "" {
		return bytes.Clone(e.Reply), nil
	}
	played := &playedError{text: e.Detail}
	for _, known := range recordedErrors {
		if e.Error == known.Error() {
			played.cause = known
		}
	}
	return nil, played
}

// next returns the exchange that answers a request.
func (p *player) next(ctx context.Context, request *exchange) (*recordedExchange, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := request.asks()
	switch {
	case p.closed:
		return nil, ErrClosed
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case p.played == len(p.exchanges):
		return nil, fmt.Errorf("%w: %s after the last of %d exchanges", ErrNotRecorded, got, p.played)
	}
	e := p.exchanges[p.played]
	want := (&exchange{u2f: e.U2F != "", message: e.Request}).asks()
	if got != want {
		return nil, fmt.Errorf("%w: exchange %d is %s, this is %s", ErrNotRecorded, p.played+1, want, got)
	}
	p.played++
	return e, nil
}

// asks returns a text that is the same for two requests that ask for the same.
// What U2F requests ask for is in their header.
func (e *exchange) asks() string {
	if e.u2f {
		return fmt.Sprintf("%s %X", e.command(), e.message[:u2fHeader])
	}
	text, _ := e.describeRequest(comparing)
	return strings.TrimSpace(fmt.Sprintf("%s (%#02x) %s", cmp.Or(e.subcommand(), e.command()), e.message[0], text))
}
