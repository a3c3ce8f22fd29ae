//go:build linux

package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// A foreignClient is somebody else's CTAP library, in a program of testdata
// that registers and signs in with it, step by step, and says of each step how
// it went. The key that it finds is the software authenticator, as a USB HID
// key on a socket.
type foreignClient struct {
	name       string
	command    []string
	algorithms []cose.Algorithm // that the client can verify
	// hides takes out of getInfo what the client does not tell its callers.
	hides func(info map[string]any)
	// takesRoot: the client verifies attestation certificates itself.
	takesRoot bool
	// prototypes: the client knows credential management and fingerprints by the
	// command bytes of their prototypes alone (§6.12, §6.13).
	prototypes bool
}

// TestLibfido2 needs Debian's libfido2-dev, pkg-config and a C compiler.
func TestLibfido2(t *testing.T) {
	const source = "testdata/libfido2.c"
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "libfido2 >= 1.12.0").Output()
	if err != nil {
		missing(t, "libfido2-dev, pkg-config", err)
	}
	compiler, err := exec.LookPath("cc")
	if err != nil {
		missing(t, "gcc, libc6-dev", err)
	}
	program := filepath.Join(t.TempDir(), "libfido2")
	args := append([]string{"-Wall", "-o", program, source}, strings.Fields(string(flags))...)
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", source, err, out)
	} else if len(out) > 0 {
		t.Errorf("%s: the compiler warns:\n%s", source, out)
	}
	testForeignClient(t, foreignClient{
		name:       "libfido2",
		command:    []string{program},
		algorithms: []cose.Algorithm{cose.ES256, cose.EdDSA, cose.ES384, cose.RS256},
		hides: func(info map[string]any) {
			for member := 0x15; member <= 0x1F; member++ { // are younger than it
				delete(info, strconv.Itoa(member))
			}
			if info["12"] == false {
				delete(info, "12")
			}
		},
		prototypes: true,
	})
}

// TestPythonFIDO2 needs Debian's python3-fido2. Later versions have another
// interface than 0.9.
func TestPythonFIDO2(t *testing.T) {
	// Debian's own Python: another that comes first in PATH does not find
	// Debian's packages.
	const python = "/usr/bin/python3"
	const probe = `import fido2; assert fido2.__version__.startswith("0.9."), fido2.__version__`
	if _, err := exec.Command(python, "-c", probe).Output(); err != nil {
		missing(t, "python3-fido2", err)
	}
	testForeignClient(t, foreignClient{
		name:       "python-fido2",
		command:    []string{python, "-B", "testdata/python_fido2.py"},
		algorithms: []cose.Algorithm{cose.ES256, cose.EdDSA, cose.RS256},
		takesRoot:  true,
	})
}

// missing ends a test whose client is not installed.
func missing(t *testing.T, packages string, err error) {
	t.Helper()
	var stderr []byte
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		stderr = exit.Stderr
	}
	if os.Getenv("FIDO_INTEROP") == "require" {
		t.Fatalf("FIDO_INTEROP=require, and this needs %s: %v\n%s", packages, err, stderr)
	}
	t.Skipf("needs %s: %v\n%s", packages, err, stderr)
}

// A foreignKey is a kind of key that the clients are held against.
type foreignKey struct {
	name   string
	config virtual.Config
	// info is how getInfo differs from that of the zero Config, by member.
	// Options are merged, and absent if they are nil.
	info map[int]any
	// last is the last of the zero Config's members that such keys have, 0 if
	// they have them all.
	last int
}

// zeroInfo is the getInfo of the zero Config. The number of a member is its
// key; byte strings are in hexadecimal.
var zeroInfo = map[int]any{
	0x01: []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1", "FIDO_2_3"},
	0x02: []string{
		"credProtect", "credBlob", "largeBlobKey", "minPinLength", "pinComplexityPolicy",
		"hmac-secret", "hmac-secret-mc", "thirdPartyPayment",
	},
	0x03: "6d8a1c521f0e4b3a9c375ed12044f6b9",
	0x04: map[string]any{
		"plat": false, "rk": true, "up": true, "clientPin": false, "alwaysUv": false,
		"pinUvAuthToken": true, "makeCredUvNotRqd": true, "credMgmt": true, "perCredMgmtRO": true,
		"largeBlobs": true, "authnrCfg": true, "setMinPINLength": true,
	},
	0x05: 7609,
	0x06: []int{2, 1},
	0x07: 8,
	0x08: 128,
	0x09: []string{"usb"},
	0x0A: algorithmInfo(cose.ES256, cose.EdDSA),
	0x0B: 4096,
	0x0C: false,
	0x0D: 4,
	0x0E: 1,
	0x0F: 32,
	0x10: 8,
	0x14: 25,
	0x16: []string{"packed"},
	0x18: false,
	0x19: fresh(32),
	0x1B: false,
	0x1D: 63,
	0x1E: fresh(32),
	0x1F: []int{2, 3, 4},
}

// fresh is a byte string of so many bytes that is another one in each answer.
func fresh(length int) any {
	return []any{"fresh", length}
}

func algorithmInfo(algorithms ...cose.Algorithm) (info []any) {
	for _, alg := range algorithms {
		info = append(info, map[string]any{"alg": int(alg), "type": "public-key"})
	}
	return info
}

var manyAlgorithms = []cose.Algorithm{cose.EdDSA, cose.ES384, cose.RS256, cose.ES512, cose.ES256}

var foreignKeys = []foreignKey{
	{name: "zero Config"}, // of two and one, both clients take two in any case
	{
		name:   "protocol two",
		config: virtual.Config{PINProtocols: []pin.Protocol{pin.Two}, CredentialManagementPreview: true},
		info: map[int]any{
			0x01: []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1", "FIDO_2_3"},
			0x04: map[string]any{"credentialMgmtPreview": true},
			0x06: []int{2},
		},
	},
	{
		name: "protocol one, fingerprint",
		config: virtual.Config{
			PINProtocols: []pin.Protocol{pin.One}, CredentialManagementPreview: true,
			BuiltInUV: virtual.UVConfigured, BioEnrollmentPreview: true,
		},
		info: map[int]any{
			0x01: []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1", "FIDO_2_3"},
			0x04: map[string]any{
				"credentialMgmtPreview": true, "uv": true, "bioEnroll": true, "uvBioEnroll": true, "uvAcfg": true,
				"userVerificationMgmtPreview": true,
			},
			0x06: []int{1}, 0x11: 3, 0x12: 2, 0x17: 0,
		},
	},
	{
		name: "CTAP 2.1, fingerprint",
		config: virtual.Config{
			Level: virtual.CTAP21, CredentialManagementPreview: true, EnterpriseAttestation: true,
			BuiltInUV: virtual.UVConfigured, BioEnrollmentPreview: true, FingerprintSamples: 6,
			MaxRPIDsForSetMinPINLength: 1,
		},
		info: map[int]any{
			0x01: []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1"},
			0x02: []string{"credProtect", "credBlob", "largeBlobKey", "minPinLength", "hmac-secret"},
			0x04: map[string]any{
				"credentialMgmtPreview": true, "perCredMgmtRO": nil, "ep": false,
				"uv": true, "bioEnroll": true, "uvBioEnroll": true, "uvAcfg": true, "userVerificationMgmtPreview": true,
			},
			0x10: 1, 0x11: 3, 0x12: 2,
		},
		last: 0x14,
	},
	{
		name:   "CTAP 2.1-PRE, fingerprint",
		config: virtual.Config{Level: virtual.CTAP21PRE, BuiltInUV: virtual.UVConfigured},
		info: map[int]any{
			0x01: []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE"},
			0x02: []string{"credProtect", "hmac-secret"},
			0x04: map[string]any{
				"alwaysUv": nil, "pinUvAuthToken": nil, "makeCredUvNotRqd": nil, "credMgmt": nil, "perCredMgmtRO": nil,
				"largeBlobs": nil, "authnrCfg": nil, "setMinPINLength": nil,
				"credentialMgmtPreview": true, "uv": true, "userVerificationMgmtPreview": true,
			},
			0x06: []int{1},
		},
		last: 0x0A,
	},
	{
		name:   "CTAP 2.0",
		config: virtual.Config{Level: virtual.CTAP20, NoU2F: true},
		info: map[int]any{
			0x01: []string{"FIDO_2_0"},
			0x02: []string{"hmac-secret"},
			0x04: map[string]any{
				"alwaysUv": nil, "pinUvAuthToken": nil, "makeCredUvNotRqd": nil, "credMgmt": nil, "perCredMgmtRO": nil,
				"largeBlobs": nil, "authnrCfg": nil, "setMinPINLength": nil,
			},
			0x06: []int{1},
		},
		last: 0x06,
	},
	{
		name:   "many algorithms, self attestation",
		config: virtual.Config{Algorithms: manyAlgorithms, Attestation: virtual.AttestationSelf},
		info:   map[int]any{0x0A: algorithmInfo(manyAlgorithms...)},
	},
	{
		name: "other numbers, no attestation",
		config: virtual.Config{
			AAGUID:                      [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
			FirmwareVersion:             0x0102030405,
			Transports:                  []string{"nfc", "usb"},
			Attestation:                 virtual.AttestationNone,
			MaxMsgSize:                  1200,
			MaxCredentialCountInList:    3,
			MaxCredentialIDLength:       200,
			Credentials:                 20,
			MaxSerializedLargeBlobArray: 5000,
			MaxCredBlobLength:           33,
			MinPINLength:                6,
			MaxPINLength:                60,
			PINComplexityPolicyURL:      "https://example.com/pin",
			MaxRPIDsForSetMinPINLength:  2,
			VendorConfigCommands:        []uint64{5},
			TransportsForReset:          []string{"usb"},

			UVRequiredForNonDiscoverable: true,
		},
		info: map[int]any{
			0x03: "0102030405060708090a0b0c0d0e0f10",
			0x04: map[string]any{"makeCredUvNotRqd": nil},
			0x05: 1200,
			0x07: 3,
			0x08: 200,
			0x09: []string{"nfc", "usb"},
			0x0B: 5000,
			0x0D: 6,
			0x0E: 0x0102030405,
			0x0F: 33,
			0x10: 2,
			0x14: 20,
			0x15: []int{5},
			0x16: []string{"none"},
			0x1A: []string{"usb"},
			0x1C: hex.EncodeToString([]byte("https://example.com/pin")),
			0x1D: 60,
			0x1F: []int{2, 3, 4, 255},
		},
	},
	{name: "U2F alone", config: virtual.Config{Level: virtual.CTAP1}},
}

// wantInfo returns the getInfo of a key, as JSON has it.
func (k *foreignKey) wantInfo(t *testing.T) map[string]any {
	want := make(map[string]any)
	for member, value := range zeroInfo {
		if k.last == 0 || member <= k.last {
			want[strconv.Itoa(member)] = value
		}
	}
	for member, value := range k.info {
		name := strconv.Itoa(member)
		want[name] = value
		if options, ok := value.(map[string]any); ok {
			merged := maps.Clone(zeroInfo[member].(map[string]any))
			maps.Copy(merged, options)
			maps.DeleteFunc(merged, func(_ string, v any) bool { return v == nil })
			want[name] = merged
		}
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	return decodeObject(t, data)
}

func decodeObject(t *testing.T, data []byte) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return object
}

// steps are what the client's program does with a key and the algorithms, in
// order.
func (k *foreignKey) steps(t *testing.T, client foreignClient, algorithms []cose.Algorithm) []string {
	if k.config.Level == virtual.CTAP1 {
		return []string{"open", "U2F"}
	}
	steps := []string{"open", "getInfo", "set PIN"}
	for _, verb := range []string{"register", "sign in"} {
		for _, alg := range algorithms {
			steps = append(steps, fmt.Sprintf("%s %d", verb, int(alg)))
		}
	}
	if k.config.Level != virtual.CTAP20 {
		steps = append(steps, "credProtect")
	}
	steps = append(steps, "hmac-secret", "wrong PIN", "PIN_AUTH_BLOCKED", "three accounts", "change PIN",
		"excludeList", "allowList", "without touch", "selection", "cancel")
	options := k.wantInfo(t)["4"].(map[string]any)
	credMgmt, bioEnroll := "credMgmt", "bioEnroll"
	if client.prototypes || k.config.Level == virtual.CTAP21PRE {
		credMgmt, bioEnroll = "credentialMgmtPreview", "userVerificationMgmtPreview"
	}
	for _, step := range []struct {
		name string
		on   bool
	}{
		{"credential management", options[credMgmt] == true},
		{"fingerprints", options[bioEnroll] == true},
		{"built-in user verification", options["uv"] == true},
		{"large blobs", options["largeBlobs"] == true},
		{"credBlob", options["largeBlobs"] == true}, // the one comes with the other here
		{"U2F", !k.config.NoU2F},
		{"enterprise attestation", options["ep"] == false}, // off, that is
		{"config", options["authnrCfg"] == true},
	} {
		if step.on {
			steps = append(steps, step.name)
		}
	}
	return append(steps, "reset")
}

// A foreignStep is a line of a program's output.
type foreignStep struct {
	Ask string // what the person at the key is to do, in a line of its own

	Step        string
	Error       string // empty if it went well
	Info        json.RawMessage
	Attestation string // basic, self or none
	X5C         string // the first certificate, DER in hexadecimal
	Protocol    int    // the PIN/UV auth protocol in use
}

func testForeignClient(t *testing.T, client foreignClient) {
	for _, k := range foreignKeys {
		t.Run(k.name, func(t *testing.T) {
			algorithms := k.config.Algorithms
			if algorithms == nil && k.config.Level != virtual.CTAP1 {
				algorithms = []cose.Algorithm{cose.ES256, cose.EdDSA}
			}
			algorithms = slices.DeleteFunc(slices.Clone(algorithms), func(alg cose.Algorithm) bool {
				return !slices.Contains(client.algorithms, alg)
			})
			root, steps := client.run(t, &k, algorithms)
			want := k.steps(t, client, algorithms)
			for i, name := range want {
				t.Run(name, func(t *testing.T) {
					if i >= len(steps) || steps[i].Step != name {
						t.Fatal("the program never came to it")
					}
					client.checkStep(t, &k, root, steps[i])
				})
			}
			if len(steps) > len(want) {
				t.Errorf("unexpected steps: %+v", steps[len(want):])
			}
		})
	}
}

// checkStep fails if the client was not content, or where it has left something
// to be looked at.
func (client *foreignClient) checkStep(t *testing.T, k *foreignKey, root *x509.Certificate, step foreignStep) {
	if step.Error != "" {
		t.Fatalf("%s: %s", client.name, step.Error)
	}
	switch {
	case step.Step == "getInfo":
		want := k.wantInfo(t)
		if client.hides != nil {
			client.hides(want)
		}
		if got := decodeObject(t, step.Info); !reflect.DeepEqual(got, want) {
			t.Errorf("%s reads\n%v, want\n%v", client.name, got, want)
		}
	case strings.HasPrefix(step.Step, "register "):
		want := [...]string{"basic", "self", "none"}[k.config.Attestation]
		if step.Attestation != want {
			t.Errorf("attestation is %q, want %q", step.Attestation, want)
		}
	case step.Step == "U2F" && step.Attestation != "basic":
		t.Errorf("attestation is %q", step.Attestation)
	}
	if step.Attestation == "basic" && !client.takesRoot {
		verifyIssuer(t, root, step.X5C)
	}
	if step.Protocol != 0 {
		want := 1.0 // if there is no other
		for _, protocol := range k.wantInfo(t)["6"].([]any) {
			want = max(want, protocol.(float64))
		}
		if step.Protocol != int(want) {
			t.Errorf("it went by protocol %d, want %v", step.Protocol, want)
		}
	}
}

func verifyIssuer(t *testing.T, root *x509.Certificate, x5c string) {
	if root == nil {
		t.Fatal("a certificate from a key that has no root")
	}
	der, err := hex.DecodeString(x5c)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		t.Error(err)
	}
}

// run plugs a new key in, runs the client's program, does for it what a person
// would, and returns what the program said, and the key's attestation root.
func (client *foreignClient) run(t *testing.T, k *foreignKey, algorithms []cose.Algorithm) (*x509.Certificate, []foreignStep) {
	key, err := virtual.New(k.config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	}()
	root := key.AttestationRoot()
	usb := key.PlugIn(virtual.USBConfig{})
	defer usb.Unplug()
	socket := listen(t, usb)

	// Only in case that it hangs.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append(slices.Clone(client.command[1:]), socket)
	if client.takesRoot {
		der := "-"
		if root != nil {
			der = hex.EncodeToString(root.Raw)
		}
		args = append(args, der)
	}
	for _, alg := range algorithms {
		args = append(args, strconv.Itoa(int(alg)))
	}
	program := exec.CommandContext(ctx, client.command[0], args...)
	var stderr bytes.Buffer
	program.Stderr = &stderr
	stdin, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	var steps []foreignStep
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var step foreignStep
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			t.Errorf("%v: %s", err, lines.Bytes())
			continue
		}
		if step.Ask == "" {
			steps = append(steps, step)
			continue
		}
		switch step.Ask {
		case "power cycle":
			usb.Unplug()
			usb.PlugIn()
		case "ignore":
			key.SetPresence(virtual.Ignore)
		case "touch":
			key.SetPresence(virtual.Touch)
		case "wrong finger":
			key.SetVerification(virtual.Refuse)
		case "right finger":
			key.SetVerification(virtual.Touch)
		case "clumsy finger":
			key.SetFinger(virtual.Samples(virtual.SampleTooFast))
		default:
			t.Errorf("the program asks for %q", step.Ask)
		}
		io.WriteString(stdin, "done\n") // a program that is gone is found below
	}
	err = errors.Join(lines.Err(), program.Wait())
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%s: %v\n%s", client.name, err, stderr.Bytes())
	}
	return root, steps
}

// listen makes a key in a USB port one that is found at a socket: whoever
// connects has it open, and sends and receives its reports, without a report
// ID, a packet each. It returns the socket's name.
func listen(t *testing.T, usb *virtual.USB) string {
	// The name has to be short, which that of t.TempDir need not be.
	dir, err := os.MkdirTemp("", "key")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "hidraw")
	listener, err := net.Listen("unixpacket", name)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			program, err := listener.Accept()
			if err != nil {
				return
			}
			key, err := usb.Open()
			if err != nil {
				t.Error(err)
				program.Close()
				continue
			}
			wg.Go(func() { relay(program, key) })
			wg.Go(func() { relay(key, program) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
		os.RemoveAll(dir)
	})
	return name
}

// relay carries reports from one end to the other until either is gone, and
// then closes both. What is no report is dropped, so that the program misses an
// answer.
func relay(to, from io.ReadWriteCloser) {
	defer to.Close()
	defer from.Close()
	var report [65]byte
	for {
		n, err := from.Read(report[:])
		if err != nil {
			return
		}
		if n != 64 {
			continue
		}
		if _, err := to.Write(report[:n]); err != nil {
			return
		}
	}
}
