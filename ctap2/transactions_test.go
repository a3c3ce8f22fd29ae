package ctap2_test

import (
	"crypto/rand"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// transactions counts the requests that cross a cable: the packets that begin
// one.
type transactions struct {
	hid.Conn
	n int
}

func (c *transactions) Write(p []byte) (int, error) {
	const command = 4 // behind the channel
	if p[command]&0x80 != 0 && p[command] != 0x80|ctap.HIDCancel {
		c.n++
	}
	return c.Conn.Write(p)
}

// documentedTransactions reads the table of the package's documentation.
func documentedTransactions(t *testing.T) map[string]int {
	t.Helper()
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]int{}
	_, section, _ := strings.Cut(string(source), "# Transactions")
	section, _, _ = strings.Cut(section, "\n// # ")
	for _, row := range regexp.MustCompile(`(?m)^//\t(.+?) {2,}(\d+)  \S`).FindAllStringSubmatch(section, -1) {
		table[row[1]], _ = strconv.Atoi(row[2])
	}
	return table
}

// No call costs more transactions than the documentation says, with either
// PIN/UV auth protocol, nor fewer: then the documentation wants a change.
func TestTransactions(t *testing.T) {
	type row struct {
		config  virtual.Config
		prepare func(d *desk) any
		call    func(d *desk, prepared any)
	}
	var (
		id       = func(c any) []byte { return c.(*ctap2.Credential).ID }
		withPIN  = virtual.Config{PIN: benchPIN}
		register = func(d *desk) any { return d.register(resident, with(ctap2.HMACSecret(), ctap2.LargeBlobKey())) }
		blob     = make([]byte, 1000)
	)
	rand.Read(blob)
	listed := func(n, length int) func(d *desk, c any) {
		return func(d *desk, c any) {
			ids := append(randomIDs(n-1, length), id(c))
			verify(t, d.signIn(allow(ids...), gaUV(ctap2.Preferred))[0], c.(*ctap2.Credential))
		}
	}
	blobbed := func(d *desk) any {
		c := register(d).(*ctap2.Credential)
		descriptor := c.Descriptor()
		err := d.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &descriptor, Data: blob})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	get := func(d *desk, r *ctap2.LargeBlobRequest) {
		if got, err := d.GetLargeBlob(t.Context(), r); err != nil || string(got) != string(blob) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	rows := map[string]row{
		"open": {withPIN, nil, nil},
		"register, no PIN set": {virtual.Config{}, nil, func(d *desk, _ any) {
			d.register(resident)
		}},
		"register with PIN":                  {withPIN, nil, func(d *desk, _ any) { d.register(resident) }},
		"sign in with PIN":                   {withPIN, register, listed(1, 16)},
		"sign in with PIN, allow list of 20": {virtual.Config{PIN: benchPIN, MaxCredentialCountInList: 20}, register, listed(20, 16)},
		"the same, 8 to a list":              {withPIN, register, listed(20, 16)},
		"40 credential IDs of 241 bytes": {
			virtual.Config{MaxCredentialIDLength: 241, MaxCredentialCountInList: 40},
			func(d *desk) any { return d.register(resident) }, listed(40, 241),
		},
		"sign in with PIN, three accounts": {withPIN, func(d *desk) any { return d.fill(3, 1) }, func(d *desk, _ any) {
			if n := len(d.signIn(func(r *ctap2.GetAssertionRequest) { r.RPID = "rp0.example" })); n != 3 {
				t.Errorf("%d accounts", n)
			}
		}},
		"set a PIN": {virtual.Config{}, nil, func(d *desk, _ any) {
			if err := d.SetPIN(t.Context(), pin.FromString(benchPIN)); err != nil {
				t.Error(err)
			}
		}},
		"change the PIN": {withPIN, nil, func(d *desk, _ any) {
			if err := d.ChangePIN(t.Context(), pin.FromString(benchPIN), pin.FromString("314159")); err != nil {
				t.Error(err)
			}
		}},
		"list 10 credentials of 3 parties": {withPIN, func(d *desk) any { return d.fill(10, 3) }, func(d *desk, _ any) {
			if list, err := d.EnumerateCredentials(t.Context(), nil); err != nil || len(list) != 10 {
				t.Errorf("%d, %v", len(list), err)
			}
		}},
		"write a blob of 1000 bytes": {virtual.Config{PIN: benchPIN, MaxMsgSize: 1200}, register, func(d *desk, c any) {
			descriptor := c.(*ctap2.Credential).Descriptor()
			err := d.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &descriptor, Data: blob})
			if err != nil {
				t.Error(err)
			}
		}},
		"read it": {virtual.Config{PIN: benchPIN, MaxMsgSize: 1200}, blobbed, func(d *desk, c any) {
			descriptor := c.(*ctap2.Credential).Descriptor()
			get(d, &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &descriptor})
		}},
		"read it, its key at hand": {virtual.Config{PIN: benchPIN, MaxMsgSize: 1200}, blobbed, func(d *desk, c any) {
			get(d, &ctap2.LargeBlobRequest{Key: c.(*ctap2.Credential).LargeBlobKey})
		}},
		"hmac-secret with PIN": {withPIN, register, func(d *desk, _ any) {
			accounts := d.signIn(gaUV(ctap2.Required), gaWith(ctap2.HMACSecret(make([]byte, 32))))
			if _, err := ctap2.Output[*ctap2.HMACSecretOutput](accounts[0].Extensions); err != nil {
				t.Error(err)
			}
		}},
	}
	documented := documentedTransactions(t)
	for name := range documented {
		if _, ok := rows[name]; !ok {
			t.Errorf("the documentation has a row %q that is not tested", name)
		}
	}
	for name, row := range rows {
		want, ok := documented[name]
		if !ok {
			t.Errorf("the documentation has no row %q", name)
		}
		t.Run(name, func(t *testing.T) {
			for _, p := range []pin.Protocol{pin.One, pin.Two} {
				row.config.PINProtocols = []pin.Protocol{p}
				d := sit(t, row.config, benchPIN)
				var prepared any
				if row.prepare != nil {
					prepared = row.prepare(d)
				}
				d.Close()
				wire := &transactions{}
				d.plug = func(conn hid.Conn) hid.Conn {
					wire.Conn = conn
					return wire
				}
				d.open()
				if row.call != nil {
					wire.n = 0
					row.call(d, prepared)
				}
				if wire.n != want {
					t.Errorf("%v: %d transactions, documented are %d: %v", p, wire.n, want, d.sent())
				}
			}
		})
	}
}
