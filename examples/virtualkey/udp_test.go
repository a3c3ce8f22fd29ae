package main

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
)

// udpAddr waits until a program is attached, and returns where.
func udpAddr(s *started) netip.AddrPort {
	s.t.Helper()
	_, addr, _ := strings.Cut(strings.TrimSpace(s.attached()), "attached at ")
	return netip.MustParseAddrPort(addr)
}

// dial opens the key at an address. A connected socket is a hid.Conn.
func dial(t *testing.T, addr netip.AddrPort) *hid.Device {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	device, err := hid.New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device
}

func TestUDP(t *testing.T) {
	state := filepath.Join(t.TempDir(), "key")
	args := []string{"-udp", "127.0.0.1:0", "-state", state, "-pin-file", file(t, testPIN+"\r\nmore\n")}
	program := start(t, args...)
	device := dial(t, udpAddr(program))
	cred := register(t, device)
	signIn(t, device, cred)

	// The largest message, with another program on the bus.
	other := dial(t, udpAddr(program))
	message := make([]byte, device.MaxMessageSize())
	for _, d := range []*hid.Device{other, dial(t, udpAddr(program)), other} {
		if echo, err := d.Ping(t.Context(), message); err != nil || len(echo) != len(message) {
			t.Fatalf("PING: %d bytes, %v", len(echo), err)
		}
	}
	program.stop()

	// The key is still there when the program runs again.
	program = start(t, args...)
	signIn(t, dial(t, udpAddr(program)), cred)
	program.stop()
}

func TestUDPNobodyTouches(t *testing.T) {
	program := start(t, "-udp", "127.0.0.1:0", "-touch", "none")
	device := dial(t, udpAddr(program))
	waits := make(chan struct{})
	ended := make(chan error)
	go func() {
		blinks := false
		_, err := device.Exchange(t.Context(), []byte{0x0B}, func(byte) {
			if !blinks {
				close(waits)
			}
			blinks = true
		})
		ended <- err
	}()
	<-waits
	program.stop()
	device.Close()
	if err := <-ended; err == nil {
		t.Error("somebody touched it")
	}
}

func TestUDPProfiles(t *testing.T) {
	for _, profile := range virtual.Profiles() {
		program := start(t, "-udp", "127.0.0.1:0", "-profile", profile.String())
		key, err := ctap2.Open(t.Context(), dial(t, udpAddr(program)))
		if err != nil {
			t.Fatalf("%v: %v", profile, err)
		}
		if aaguid := profile.Config().AAGUID; key.Info().AAGUID != aaguid {
			t.Errorf("%v: AAGUID %v", profile, key.Info().AAGUID)
		}
		key.Close()
		program.stop()
	}
}

func TestUDPBus(t *testing.T) {
	listen := func() *net.UDPConn {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		return conn
	}
	bus := &udpBus{conn: listen()}
	to := bus.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	report := make([]byte, reportSize)

	// Datagrams of other lengths are no reports, and who sends them no peer.
	stranger := listen()
	for _, n := range []int{0, 1, reportSize - 1, reportSize + 1, 200} {
		stranger.WriteToUDPAddrPort(make([]byte, n), to)
	}
	got := make([]byte, reportSize)
	send := func(from *net.UDPConn, channel byte) {
		t.Helper()
		report := append([]byte{0, 0, 0, channel}, make([]byte, reportSize-4)...)
		from.WriteToUDPAddrPort(report, to)
		if n, err := bus.Read(got); n != reportSize || err != nil || got[3] != channel {
			t.Fatalf("report for channel %d: %x, %v", channel, got[:n], err)
		}
	}
	hear := func(at *net.UDPConn, channel byte) {
		t.Helper()
		if n, err := at.Read(got); n != reportSize || err != nil || got[3] != channel {
			t.Errorf("report on channel %d: %x, %v", channel, got[:n], err)
		}
	}
	answer := func(channel byte) {
		t.Helper()
		report[3] = channel
		if n, err := bus.Write(report); n != reportSize || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}

	// Everybody hears the channels that they use, and no others. A program
	// that is gone is no matter.
	a, b, gone := listen(), listen(), listen()
	for _, peer := range []*net.UDPConn{a, b, gone} {
		send(peer, 0xFF)
	}
	gone.Close()
	send(a, 1)
	send(b, 2)
	for _, channel := range []byte{2, 0xFF, 1, 3} {
		answer(channel)
	}
	hear(a, 0xFF)
	hear(a, 1)
	hear(b, 2)
	hear(b, 0xFF)

	// The channel that was used least recently is forgotten.
	for channel := range byte(maxRoutes - 1) {
		send(a, 100+channel)
		send(b, 2)
	}
	if len(bus.routes) != maxRoutes {
		t.Fatalf("%d routes", len(bus.routes))
	}
	for _, channel := range []byte{1, 2, 100, 100 + maxRoutes - 2} {
		answer(channel)
	}
	hear(b, 2)
	hear(a, 100)
	hear(a, 100+maxRoutes-2)

	bus.Close()
	if _, err := bus.Write(report); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if _, err := bus.Read(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
}

func TestUDPPortTaken(t *testing.T) {
	program := start(t, "-udp", "127.0.0.1:0")
	second := start(t, "-udp", udpAddr(program).String())
	if err := <-second.end; err == nil {
		t.Error("two keys at one address")
	}
	program.stop()
}
