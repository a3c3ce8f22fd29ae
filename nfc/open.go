package nfc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Reader is a smart card reader of this machine, as it was when it was asked.
type Reader struct {
	Name string // for Open
	Card bool   // there is a card in it
	ATR  []byte // what the card says of itself when it is powered; may be nil
}

// Readers returns the smart card readers of this machine. It touches no card:
// whether one is a FIDO card shows only when it is opened. A machine without
// readers has an empty list, not an error; Windows may stop its service when
// there is no reader, so that the error is [ErrNoService].
//
// The error is [ErrNoService] if there is no smart card service or it does not
// run, matches fs.ErrPermission if this user may not use it, and is
// [ErrUnsupported] in a build without PC/SC.
func Readers(ctx context.Context) ([]Reader, error) {
	readers, err := within(ctx, func() ([]Reader, error) {
		p, err := establish()
		if err != nil {
			return nil, err
		}
		defer func() { _ = p.release() }()
		names, err := p.readers()
		if err != nil || len(names) == 0 {
			return nil, err
		}
		states := make([]readerState, len(names))
		for i, name := range names {
			states[i].name = name
		}
		if err := p.wait(states, 0); err != nil && !errors.Is(err, pcscTimeout) {
			return nil, err
		}
		var readers []Reader
		for _, s := range states {
			if s.flags&stateUnknown == 0 { // or it was unplugged meanwhile
				readers = append(readers, s.reader())
			}
		}
		return readers, nil
	}, func([]Reader) {})
	if err != nil {
		return nil, fmt.Errorf("nfc: readers: %w", whenListing(err))
	}
	return readers, nil
}

func (s *readerState) reader() Reader {
	r := Reader{Name: s.name, Card: s.flags&statePresent != 0}
	if r.Card {
		r.ATR = s.atr
	}
	return r
}

// Open opens the card in a reader that [Readers] returned, or that the user
// named, and selects its FIDO application as [New] does. Other programs can
// reach the card as well, but not during an exchange.
//
// It refuses with [ErrNoReader] a reader that is not there, with [ErrNoCard]
// one that is empty, with [ErrInUse] a card that another program has to itself,
// with [ErrNotFIDO] a card without the application, and with [ErrNoAnswer] one
// that does not respond. Other errors are those of Readers and New.
func Open(ctx context.Context, reader string) (*Device, error) {
	d, err := open(ctx, reader)
	if err != nil {
		return nil, fmt.Errorf("nfc: open %q: %w", reader, err)
	}
	return d, nil
}

// OpenFirst opens the first FIDO card of this machine. It selects the FIDO
// application on the card in each reader until one has it, which may come
// between another program and its card: where the reader's name is known, Open
// is the better choice.
//
// Without a reader the error is [ErrNoReader], and without a card in any
// [ErrNoCard]. If none of the cards is a FIDO card it is [ErrNotFIDO], with
// what went wrong with those that could not be asked. Other errors are those of
// Readers.
func OpenFirst(ctx context.Context) (*Device, error) {
	readers, err := Readers(ctx)
	if err != nil {
		return nil, err
	}
	if len(readers) == 0 {
		return nil, fmt.Errorf("nfc: open: %w", ErrNoReader)
	}
	err = ErrNoCard
	for _, r := range readers {
		if !r.Card {
			continue
		}
		d, failed := open(ctx, r.Name)
		switch {
		case failed == nil:
			return d, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("nfc: open %q: %w", r.Name, failed)
		case errors.Is(err, ErrNoCard):
			err = ErrNotFIDO
		}
		if !errors.Is(failed, ErrNotFIDO) {
			err = fmt.Errorf("%w: %q: %w", err, r.Name, failed)
		}
	}
	return nil, fmt.Errorf("nfc: open: %w", err)
}

// OpenCard connects to the card in a reader and selects nothing on it, for those
// who send APDUs themselves, as a conformance test does. The Card is a
// [Transactor], because other programs can reach it as well. OpenCard refuses
// what [Open] refuses, but for cards without the FIDO application.
func OpenCard(ctx context.Context, reader string) (Card, error) {
	card, err := connect(ctx, reader)
	if err != nil {
		return nil, fmt.Errorf("nfc: open %q: %w", reader, err)
	}
	return card, nil
}

func open(ctx context.Context, reader string) (*Device, error) {
	card, err := connect(ctx, reader)
	if err != nil {
		return nil, err
	}
	d, err := newDevice(ctx, card)
	if err != nil {
		_ = card.Close()
		return nil, err
	}
	d.reader = reader
	return d, nil
}

func connect(ctx context.Context, reader string) (*pcscCard, error) {
	card, err := within(ctx, func() (*pcscCard, error) {
		p, err := establish()
		if err != nil {
			return nil, err
		}
		handle, err := p.connect(reader)
		if err != nil {
			_ = p.release()
			return nil, err
		}
		return &pcscCard{context: p, handle: handle, reader: reader}, nil
	}, func(card *pcscCard) { _ = card.Close() })
	if err != nil {
		return nil, whenOpening(err)
	}
	return card, nil
}

// within makes calls of PC/SC, which take as long as they take, in a goroutine
// of their own. If ctx ends first, drop gets what they return in the end.
func within[T any](ctx context.Context, call func() (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ended(ctx); err != nil {
		return none, err
	}
	results := make(chan result)
	go func() {
		value, err := call()
		select {
		case results <- result{value, err}:
		case <-ctx.Done():
			if err == nil {
				drop(value)
			}
		}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return none, ended(ctx)
	}
}

// establish is replaced by tests.
var establish = func() (pcscContext, error) { return establishContext() }

// waitSlice is how long a wait for news lasts before the list of readers is
// read again: a reader that came between the two would not be noticed.
const waitSlice = 2 * time.Second
