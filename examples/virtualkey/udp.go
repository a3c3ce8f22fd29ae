package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/tapstone/fido/ctap2/virtual"
)

const (
	// maxRoutes bounds how many channels of how many programs are remembered.
	maxRoutes = 64
	// maxUDPFailures is how often in a row a socket may fail to receive. Some
	// systems report there that an earlier datagram found nobody.
	maxUDPFailures = 32
)

// A udpBus is a UDP socket for reports. Any number of programs may use the key.
// Each hears the reports of the channels that it uses: those of other programs,
// which a device node would have, might take the room of its own in its socket.
type udpBus struct {
	conn *net.UDPConn

	mu     sync.Mutex
	routes []udpRoute // the one that was used last is last
}

// A udpRoute says that a program has sent a report on a channel. More than one
// do on the broadcast channel.
type udpRoute struct {
	channel [4]byte
	peer    netip.AddrPort
}

// attachUDP has the key exchange reports on a UDP socket.
func attachUDP(ctx context.Context, key *virtual.Authenticator, addr netip.AddrPort, out io.Writer) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "attached at", conn.LocalAddr())
	return carry(ctx, key, &udpBus{conn: conn})
}

// Read waits for a datagram that is a report.
func (u *udpBus) Read(report []byte) (int, error) {
	datagram := make([]byte, reportSize+1)
	for failures := 0; ; {
		n, from, err := u.conn.ReadFromUDPAddrPort(datagram)
		switch {
		case err == nil:
			failures = 0
			if n == reportSize {
				u.heard(udpRoute{[4]byte(datagram), from})
				return copy(report, datagram[:n]), nil
			}
		case errors.Is(err, net.ErrClosed) || failures == maxUDPFailures:
			return 0, err
		default:
			failures++
		}
	}
}

// heard remembers who uses a channel, for longer than others.
func (u *udpBus) heard(route udpRoute) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.routes, route); i >= 0 {
		u.routes = slices.Delete(u.routes, i, i+1)
	} else if len(u.routes) == maxRoutes {
		u.routes = slices.Delete(u.routes, 0, 1)
	}
	u.routes = append(u.routes, route)
}

// Write sends a report to those who use its channel. One that has gone, or does
// not read, is no concern of the others.
func (u *udpBus) Write(report []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, route := range u.routes {
		if !bytes.HasPrefix(report, route.channel[:]) {
			continue
		}
		if _, err := u.conn.WriteToUDPAddrPort(report, route.peer); errors.Is(err, net.ErrClosed) {
			return 0, err
		}
	}
	return len(report), nil
}

// Close closes the socket.
func (u *udpBus) Close() error { return u.conn.Close() }
