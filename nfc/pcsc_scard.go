//go:build windows || (darwin && cgo) || ((linux || freebsd) && !android && pcsclite && cgo)

package nfc

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/ebfe/scard"
)

// This file calls PC/SC through a package that links to its library.

// code makes a pcscCode of an error of package scard.
func code(err error) error {
	var e scard.Error
	if errors.As(err, &e) {
		return pcscCode(e)
	}
	return err
}

type scardContext struct {
	context *scard.Context
	waiter  waiter // see its file
}

func establishContext() (pcscContext, error) {
	context, err := scard.EstablishContext()
	if err != nil {
		return nil, code(err)
	}
	c := &scardContext{context: context}
	if err := c.waiter.establish(context); err != nil {
		_ = context.Release()
		return nil, err
	}
	return c, nil
}

func (c *scardContext) release() error {
	c.waiter.release()
	return code(c.context.Release())
}

func (c *scardContext) readers() ([]string, error) {
	for {
		names, err := c.context.ListReaders()
		switch code(err) {
		case pcscNoReadersAvailable:
			return nil, nil
		case pcscInsufficientBuffer:
			continue // a reader came just now
		}
		return names, code(err)
	}
}

func (c *scardContext) wait(states []readerState, timeout time.Duration) error {
	return c.waiter.wait(states, timeout)
}

func (c *scardContext) cancel() error { return c.waiter.cancel() }

func (c *scardContext) connect(reader string) (pcscHandle, error) {
	card, err := c.context.Connect(reader, scard.ShareShared, scard.ProtocolT0|scard.ProtocolT1)
	if err != nil {
		return nil, code(err)
	}
	h := &scardHandle{card}
	if err := h.check(); err != nil {
		_ = h.disconnect()
		return nil, err
	}
	return h, nil
}

type scardHandle struct{ card *scard.Card }

// check refuses a protocol that package scard cannot transmit in.
func (h *scardHandle) check() error {
	if p := h.card.ActiveProtocol(); p != scard.ProtocolT0 && p != scard.ProtocolT1 {
		return fmt.Errorf("%w: protocol %d", pcscProtoMismatch, p)
	}
	return nil
}

func (h *scardHandle) t0() bool { return h.card.ActiveProtocol() == scard.ProtocolT0 }

func (h *scardHandle) transmit(command []byte) ([]byte, error) {
	response, err := h.card.Transmit(command)
	defer clear(response)
	return bytes.Clone(response), code(err) // without the room for the longest one
}

func (h *scardHandle) reconnect() error {
	if err := h.card.Reconnect(scard.ShareShared, scard.ProtocolT0|scard.ProtocolT1, scard.LeaveCard); err != nil {
		return code(err)
	}
	return h.check()
}

func (h *scardHandle) begin() error      { return code(h.card.BeginTransaction()) }
func (h *scardHandle) end() error        { return code(h.card.EndTransaction(scard.LeaveCard)) }
func (h *scardHandle) disconnect() error { return code(h.card.Disconnect(scard.LeaveCard)) }
