//go:build guest && !libusb

package guest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/pin"
)

// Every letter that fido2-token has. What it writes package ctap2 reads, and the
// other way round.
func testFIDO2Token(t *testing.T) {
	t.Run("info", testTokenInfo)
	t.Run("PIN", testTokenPIN)
	t.Run("resident keys", testTokenResidentKeys)
	t.Run("fingerprints", testTokenFingerprints)
	t.Run("large blobs", testTokenLargeBlobs)
	t.Run("config", testTokenConfig)
	t.Run("reset", testTokenReset)
}

const fido2Token = "/usr/bin/fido2-token"

// A token is a key as fido2-token sees it.
type token struct {
	key  *virtual.Authenticator
	path string
}

// plugInToken makes a key with a PIN. fido2-token knows credential management
// and fingerprints by the command bytes of their prototypes alone.
func plugInToken(t *testing.T, config virtual.Config) *token {
	t.Helper()
	config.PIN = keyPIN
	if config.Level != virtual.CTAP21PRE {
		config.CredentialManagementPreview = true
		config.BioEnrollmentPreview = config.BuiltInUV != virtual.UVNone
	}
	key, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	sockets[0].plugIn(t, key)
	return &token{key, found(t).Path}
}

// says runs fido2-token, which gets the PIN, and returns the lines that it says.
func (k *token) says(t *testing.T, arguments ...string) []string {
	t.Helper()
	out := works(t, keyPIN+"\n", slices.Concat([]string{fido2Token}, arguments, []string{k.path})...)
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(out, "Enter PIN for "+k.path+": ", "")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// fails runs fido2-token, which must end with an error.
func (k *token) fails(t *testing.T, input, want string, arguments ...string) {
	t.Helper()
	out, err := foreign(t, input, "", slices.Concat([]string{fido2Token}, arguments, []string{k.path})...)
	if err == nil || !strings.Contains(out, want) {
		t.Errorf("%q: %v: %s, want %s", arguments, err, out, want)
	}
}

// ours does something with the key by package ctap2.
func (k *token) ours(t *testing.T, do func(ctx context.Context, a *ctap2.Authenticator) error) {
	t.Helper()
	a := client(t, open(t), nothing)
	if err := do(limited(t), a); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// makes registers an account, with a credential that is discoverable.
func (k *token) makes(t *testing.T, rpID, name string, extensions ...ctap2.Extension) (credential *ctap2.Credential) {
	t.Helper()
	k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) (err error) {
		credential, err = a.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
			ClientDataHash: hash[:],
			RP:             ctap2.RelyingParty{ID: rpID},
			User:           ctap2.User{ID: []byte(name), Name: name + "@" + rpID, DisplayName: strings.ToUpper(name)},
			Algorithms:     []cose.Algorithm{cose.ES256},
			ResidentKey:    true,
			Extensions:     extensions,
		})
		return err
	})
	return credential
}

func encoded(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func testTokenInfo(t *testing.T) {
	configs := map[string]virtual.Config{
		"zero Config":    {},
		"CTAP 2.0, bare": {Level: virtual.CTAP20, Algorithms: []cose.Algorithm{cose.ES256}, NoU2F: true},
		"no PIN": {
			NoClientPIN: true, Transports: []string{"usb", "nfc"}, MaxMsgSize: 2048, MaxCredentialCountInList: 3,
			FirmwareVersion: 0x50403,
		},
		"PIN to change": {PIN: keyPIN, ForcePINChange: true, MinPINLength: 6},
	}
	for _, profile := range virtual.Profiles() {
		configs[profile.String()] = profile.Config()
	}
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		t.Run(name, func(t *testing.T) {
			key, err := virtual.New(configs[name])
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			p := sockets[0].plugIn(t, key)
			defer p.pullOut()
			path := found(t).Path
			want := fmt.Sprintf("%s: vendor=%#04x, product=%#04x", path, vendorID, productID)
			if out := works(t, "", fido2Token, "-L"); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, want) {
				t.Errorf("-L: %s", out)
			}
			compareInfo(t, path)
		})
	}
}

// compareInfo holds all that fido2-token says about the key against what
// packages hid and ctap2 say, and returns it.
func compareInfo(t *testing.T, path string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	for line := range strings.Lines(works(t, "", fido2Token, "-I", path)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		got[name] = value
	}
	sorted := func(list []string) string {
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	if options := got["options"]; options != "" {
		got["options"] = sorted(strings.Split(options, ", "))
	}
	dev := open(t)
	a := client(t, dev, nothing)
	want := wantInfo(t, dev, a)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: fido2-token says %q, ctap2 %q", name, got[name], want[name])
		}
	}
	for name, value := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: fido2-token says %q, ctap2 nothing", name, value)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	return got
}

// wantInfo is what fido2-token should say, from what our side knows.
func wantInfo(t *testing.T, dev *hid.Device, a *ctap2.Authenticator) map[string]string {
	t.Helper()
	version := dev.Version()
	want := map[string]string{
		"proto": fmt.Sprintf("0x%02x", version.Protocol),
		"major": fmt.Sprintf("0x%02x", version.Major),
		"minor": fmt.Sprintf("0x%02x", version.Minor),
		"build": fmt.Sprintf("0x%02x", version.Build),
	}
	claims := dev.Capabilities()
	not := func(word string, no bool) string {
		if no {
			return "no" + word
		}
		return word
	}
	want["caps"] = fmt.Sprintf("0x%02x (%s, %s, %s)", byte(claims), not("wink", claims&hid.CapabilityWink == 0),
		not("cbor", claims&hid.CapabilityCBOR == 0), not("msg", claims&hid.CapabilityNMSG != 0))
	info := a.Info()
	if claims&hid.CapabilityCBOR == 0 {
		if !slices.Equal(info.Versions, []string{"U2F_V2"}) {
			t.Errorf("versions %v", info.Versions)
		}
		return want
	}

	list := func(name string, elements []string) {
		if len(elements) > 0 {
			want[name] = strings.Join(elements, ", ")
		}
	}
	number := func(name string, n int) {
		if n != 0 {
			want[name] = fmt.Sprint(n)
		}
	}
	var algorithms, options, protocols []string
	for _, algorithm := range info.Algorithms {
		algorithms = append(algorithms, strings.ToLower(algorithm.String())+" (public-key)")
	}
	for name, on := range info.Options {
		options = append(options, not(name, !on))
	}
	for _, protocol := range info.PINUVAuthProtocols {
		protocols = append(protocols, fmt.Sprint(uint8(protocol)))
	}
	slices.Sort(options)
	list("version strings", info.Versions)
	list("extension strings", info.Extensions)
	list("transport strings", info.Transports)
	list("algorithms", algorithms)
	list("options", options)
	list("pin protocols", protocols)
	want["aaguid"] = hex.EncodeToString(info.AAGUID[:])
	want["fwversion"] = fmt.Sprintf("%#x", info.FirmwareVersion)
	want["maxmsgsiz"] = fmt.Sprint(info.MaxMsgSize)
	// Of keys that do not say it the Info has the default, fido2-token 0; those say
	// how long an ID may be either.
	want["maxcredcntlst"] = "0"
	if info.MaxCredentialIDLength > 0 {
		want["maxcredcntlst"] = fmt.Sprint(info.MaxCredentialCountInList)
	}
	want["maxcredlen"] = fmt.Sprint(info.MaxCredentialIDLength)
	want["maxlargeblob"] = fmt.Sprint(info.MaxSerializedLargeBlobArray)
	want["pin change required"] = fmt.Sprint(info.ForcePINChange)
	// Those that say it; of others the Info has the default.
	if _, hasPIN := info.Options[ctap2.OptionClientPIN]; hasPIN && info.HasVersion("FIDO_2_1") {
		number("minpinlen", info.MinPINLength)
	}
	number("maxrpids in minpinlen", info.MaxRPIDsForSetMinPINLength)
	number("platform uv attempt(s)", info.PreferredPlatformUVAttempts)
	if info.RemainingDiscoverableCredentials != nil {
		want["remaining rk(s)"] = fmt.Sprint(*info.RemainingDiscoverableCredentials)
	}
	if info.UVModality == ctap2.UVFingerprintInternal {
		want["uv modality"] = fmt.Sprintf("%#x (fingerprint check)", uint32(info.UVModality))
	}
	want["pin retries"], want["uv retries"] = "undefined", "undefined"
	if retries, err := a.PINRetries(limited(t)); err == nil {
		want["pin retries"] = fmt.Sprint(retries.Retries)
	}
	if retries, err := a.UVRetries(limited(t)); err == nil {
		want["uv retries"] = fmt.Sprint(retries)
	}
	if _, ok := info.Options[ctap2.OptionUserVerificationMgmtPreview]; ok {
		sensor, err := a.GetFingerprintSensorInfo(limited(t))
		if err != nil {
			t.Fatal(err)
		}
		want["sensor type"] = fmt.Sprintf("%d (%s)", sensor.Kind, [...]string{1: "touch", 2: "swipe"}[sensor.Kind])
		want["max samples"] = fmt.Sprint(sensor.MaxCaptureSamplesRequiredForEnroll)
	}
	return want
}

func testTokenPIN(t *testing.T) {
	key, err := virtual.New(virtual.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	sockets[0].plugIn(t, key)
	k := &token{key, found(t).Path}
	const first = "314159"
	change := func(from string) string { return from + "\n" + keyPIN + "\n" + keyPIN + "\n" }
	works(t, first+"\n"+first+"\n", fido2Token, "-S", k.path)
	k.fails(t, change(keyPIN), "FIDO_ERR_PIN_INVALID", "-C")
	if got := compareInfo(t, k.path)["pin retries"]; got != "7" {
		t.Errorf("pin retries after a wrong PIN: %s", got)
	}
	works(t, change(first), fido2Token, "-C", k.path)
	if got := compareInfo(t, k.path)["pin retries"]; got != "8" {
		t.Errorf("pin retries after the right PIN: %s", got)
	}
	a := client(t, open(t), nothing)
	signIn(t, a, register(t, a), 1) // with the PIN that fido2-token set
}

// line returns the one line that has all words.
func line(t *testing.T, lines []string, words ...string) string {
	t.Helper()
	var found []string
	for _, line := range lines {
		fields := strings.Fields(line)
		if !slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(fields, word) }) {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines with %q in %q", len(found), words, lines)
	}
	return found[0]
}

func testTokenResidentKeys(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"CTAP 2.1-PRE":           {Level: virtual.CTAP21PRE},
		"CTAP 2.1, protocol one": {Level: virtual.CTAP21, PINProtocols: []pin.Protocol{pin.One}},
		"CTAP 2.3":               {},
	} {
		t.Run(name, func(t *testing.T) {
			k := plugInToken(t, config)
			const rpID = "example.com"
			k.fails(t, keyPIN+"\n", "FIDO_ERR_NO_CREDENTIALS", "-L", "-r")
			ada := k.makes(t, rpID, "ada")
			bob := k.makes(t, rpID, "bob", ctap2.CredProtect(ctap2.UVRequired))
			k.makes(t, "example.org", "ada")
			folder := t.TempDir()
			parameters := filepath.Join(folder, "in")
			write(t, parameters, encoded(hash[:])+"\nexample.net\neve\n"+encoded([]byte("eve"))+"\n")
			works(t, keyPIN+"\n", "/usr/bin/fido2-cred", "-M", "-r", "-i", parameters, "-o", filepath.Join(folder, "out"), k.path)

			var parties []ctap2.StoredRP
			var all []*ctap2.StoredCredential
			var metadata ctap2.CredsMetadata
			list := func(ctx context.Context, a *ctap2.Authenticator) error {
				token, err := a.Token(ctx, &ctap2.TokenRequest{Permissions: ctap2.PermissionCredentialManagement})
				if err != nil {
					return err
				}
				defer token.Wipe()
				if parties, err = a.EnumerateRPs(ctx, token); err != nil {
					return err
				}
				if all, err = a.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{Token: token}); err != nil {
					return err
				}
				metadata, err = a.GetCredsMetadata(ctx, token)
				return err
			}
			// agree compares what the two list, and returns it by credential ID.
			agree := func() map[string]*ctap2.StoredCredential {
				t.Helper()
				k.ours(t, list)
				want := []string{
					fmt.Sprintf("existing rk(s): %d", metadata.ExistingResidentCredentialsCount),
					fmt.Sprintf("remaining rk(s): %d", metadata.MaxPossibleRemainingResidentCredentialsCount),
				}
				if said := k.says(t, "-I", "-c"); !slices.Equal(said, want) || metadata.ExistingResidentCredentialsCount != len(all) {
					t.Errorf("-I -c: %q, want %q and %d", said, want, len(all))
				}
				said := k.says(t, "-L", "-r")
				if len(said) != len(parties) {
					t.Errorf("-L -r: %q, want %v", said, parties)
				}
				for _, party := range parties {
					line(t, said, encoded(party.IDHash[:]), party.ID)
				}
				byID := make(map[string]*ctap2.StoredCredential)
				for _, c := range all {
					byID[string(c.Credential.ID)] = c
					name := cmp.Or(c.User.DisplayName, "(null)")
					policy := map[ctap2.CredProtectPolicy]string{ctap2.UVOptional: "uvopt", ctap2.UVRequired: "uvreq"}[c.CredProtect]
					line(t, k.says(t, "-L", "-k", c.RP.ID), encoded(c.Credential.ID), name, encoded(c.User.ID), "es256", policy)
				}
				return byID
			}
			agree()
			if len(all) != 4 || len(parties) != 3 {
				t.Errorf("%d credentials of %d parties", len(all), len(parties))
			}
			k.fails(t, "314159\n", "FIDO_ERR_PIN_INVALID", "-L", "-r")

			// The public key of one.
			said := k.says(t, "-I", "-k", rpID, "-i", encoded(bob.ID))
			public := parsePublicKey(t, cose.ES256, strings.Join(said[1:], "\n")+"\n")
			if said[0] != encoded(bob.ID) || !bytes.Equal(public.X, bob.PublicKey.X) || !bytes.Equal(public.Y, bob.PublicKey.Y) {
				t.Errorf("-I -k: %q", said)
			}

			// Rename; the prototype alone cannot.
			rename := []string{"-S", "-c", "-i", encoded(ada.ID), "-k", encoded([]byte("ada")), "-n", "lovelace", "-p", "Countess"}
			user := ctap2.User{ID: []byte("bob"), DisplayName: "Robert"}
			if config.Level == virtual.CTAP21PRE {
				k.fails(t, keyPIN+"\n", "FIDO_ERR_INVALID_PARAMETER", rename...)
			} else {
				k.says(t, rename...)
				k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
					return a.UpdateUserInformation(ctx, &ctap2.UpdateUserInformationRequest{Credential: bob.Descriptor(), User: user})
				})
				stored := agree()
				want := ctap2.User{ID: []byte("ada"), Name: "lovelace", DisplayName: "Countess"}
				if got := stored[string(ada.ID)].User; !equalUser(got, want) {
					t.Errorf("fido2-token renamed to %+v", got)
				}
				if got := stored[string(bob.ID)].User; !equalUser(got, user) {
					t.Errorf("ctap2 renamed to %+v", got)
				}
			}

			// Delete.
			k.says(t, "-D", "-i", encoded(ada.ID))
			k.fails(t, keyPIN+"\n", "FIDO_ERR_NO_CREDENTIALS", "-D", "-i", encoded(ada.ID))
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
				return a.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: bob.Descriptor()})
			})
			if agree(); len(all) != 2 || len(parties) != 2 {
				t.Errorf("%d credentials of %d parties are left", len(all), len(parties))
			}
		})
	}
}

func equalUser(a, b ctap2.User) bool {
	return bytes.Equal(a.ID, b.ID) && a.Name == b.Name && a.DisplayName == b.DisplayName
}

func testTokenFingerprints(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"CTAP 2.1-PRE": {Level: virtual.CTAP21PRE, BuiltInUV: virtual.UVNotConfigured, FingerprintSamples: 3},
		"CTAP 2.3":     {BuiltInUV: virtual.UVNotConfigured, FingerprintSamples: 3},
	} {
		t.Run(name, func(t *testing.T) {
			k := plugInToken(t, config)
			fingers := func() (all []ctap2.Fingerprint) {
				t.Helper()
				k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) (err error) {
					all, err = a.EnumerateEnrollments(ctx, nil)
					return err
				})
				return all
			}
			verifies := func(want bool) {
				t.Helper()
				options := strings.Split(compareInfo(t, k.path)["options"], ", ")
				if slices.Contains(options, "uv") != want || slices.Contains(options, "nouv") == want {
					t.Errorf("options %q", options)
				}
			}
			verifies(false)
			k.fails(t, keyPIN+"\n", "FIDO_ERR_INVALID_OPTION", "-L", "-e")
			k.key.SetFinger(virtual.Samples(virtual.SampleTooSkewed, virtual.SampleGood, virtual.SampleTooShort))
			want := []string{
				"Touch your security key.", "Sample too skewed.", "Touch your security key (3 samples left).", "Sample ok.",
				"Touch your security key (2 samples left).", "Sample too short.", "Touch your security key (2 samples left).",
				"Sample ok.", "Touch your security key (1 sample left).", "Sample ok.",
			}
			if said := k.says(t, "-S", "-e"); !slices.Equal(said, want) {
				t.Errorf("-S -e: %q", said)
			}
			verifies(true)
			enrolled := fingers()
			if len(enrolled) != 1 || enrolled[0].FriendlyName != "" {
				t.Fatalf("fido2-token enrolled %+v", enrolled)
			}
			thumb := enrolled[0].TemplateID
			k.says(t, "-S", "-e", "-i", encoded(thumb), "-n", "left thumb")

			var index *ctap2.Fingerprint
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) (err error) {
				if index, err = a.EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{FriendlyName: "index"}); err != nil {
					return err
				}
				return a.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: index.TemplateID, FriendlyName: "right index"})
			})
			wantList := []string{"00: " + encoded(thumb) + " left thumb", "01: " + encoded(index.TemplateID) + " right index"}
			if list := k.says(t, "-L", "-e"); !slices.Equal(list, wantList) {
				t.Errorf("-L -e: %q, want %q", list, wantList)
			}
			if enrolled = fingers(); len(enrolled) != 2 || enrolled[0].FriendlyName != "left thumb" {
				t.Errorf("fido2-token named %+v", enrolled)
			}

			k.says(t, "-D", "-e", "-i", encoded(thumb))
			k.fails(t, keyPIN+"\n", "FIDO_ERR_INVALID_OPTION", "-D", "-e", "-i", encoded(thumb))
			if enrolled = fingers(); len(enrolled) != 1 || !bytes.Equal(enrolled[0].TemplateID, index.TemplateID) {
				t.Errorf("fido2-token left %+v", enrolled)
			}
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
				return a.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: index.TemplateID})
			})
			k.fails(t, keyPIN+"\n", "FIDO_ERR_INVALID_OPTION", "-L", "-e")
			verifies(false)
		})
	}
}

func testTokenLargeBlobs(t *testing.T) {
	for name, config := range map[string]virtual.Config{ // whose arrays take several messages
		"CTAP 2.1, protocol one": {Level: virtual.CTAP21, PINProtocols: []pin.Protocol{pin.One}, MaxMsgSize: 1200},
		"CTAP 2.3":               {MaxMsgSize: 1200},
	} {
		t.Run(name, func(t *testing.T) {
			k := plugInToken(t, config)
			const rpID = "example.com"
			ada := k.makes(t, rpID, "ada", ctap2.LargeBlobKey())
			// listed compares the arrays. This list takes blobs for zlib's, and
			// knows whose they are of none, be it one that fido2-token wrote.
			listed := func(want int) {
				t.Helper()
				var blobs ctap2.LargeBlobs
				k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) (err error) {
					blobs, err = a.LargeBlobArray(ctx)
					return err
				})
				var lines []string
				size := 1
				for i, blob := range blobs {
					lines = append(lines, fmt.Sprintf("%02d: %4d %4d <unknown> <unknown>", i, len(blob.Ciphertext), blob.OrigSize))
					size += len(blob.Raw)
				}
				if len(blobs) > 0 {
					lines = append([]string{fmt.Sprintf("total map size: %d bytes", size)}, lines...)
				}
				if list := k.says(t, "-L", "-b"); !slices.Equal(list, lines) || len(blobs) != want {
					t.Errorf("-L -b: %q, want %d: %q", list, want, lines)
				}
			}
			listed(0)
			folder := t.TempDir()
			file := func(name string) string { return filepath.Join(folder, name) }
			keyFile := func(c *ctap2.Credential) string {
				name := file(hex.EncodeToString(c.ID))
				write(t, name, encoded(c.LargeBlobKey.Bytes())+"\n")
				return name
			}
			noise := make([]byte, 2000)
			for i := range noise {
				noise[i] = byte(i * i >> 3)
			}
			// theirs reads by fido2-token, read by package ctap2.
			theirs := func(arguments ...string) []byte {
				t.Helper()
				k.says(t, slices.Concat([]string{"-G", "-b"}, arguments, []string{file("out")})...)
				data, err := os.ReadFile(file("out"))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(file("out")); err != nil {
					t.Fatal(err)
				}
				return data
			}
			read := func(request ctap2.LargeBlobRequest) (data []byte, err error) {
				t.Helper()
				k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
					data, err = a.GetLargeBlob(ctx, &request)
					return nil
				})
				return data, err
			}
			put := func(request ctap2.LargeBlobRequest) {
				t.Helper()
				k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error { return a.PutLargeBlob(ctx, &request) })
			}

			// By the key.
			write(t, file("blob"), string(noise))
			k.says(t, "-S", "-b", "-k", keyFile(ada), file("blob"))
			if got, err := read(ctap2.LargeBlobRequest{Key: ada.LargeBlobKey}); err != nil || !bytes.Equal(got, noise) {
				t.Errorf("ctap2 reads %d bytes: %v", len(got), err)
			}
			if got := theirs("-k", keyFile(ada)); !bytes.Equal(got, noise) {
				t.Errorf("fido2-token reads %d bytes of its own", len(got))
			}

			// By the relying party, as long as one credential is all it has.
			letter := bytes.Repeat([]byte("letter "), 1000)
			put(ctap2.LargeBlobRequest{RPID: rpID, Data: letter})
			if got := theirs("-n", rpID); !bytes.Equal(got, letter) {
				t.Errorf("fido2-token reads %d bytes", len(got))
			}
			bob := k.makes(t, rpID, "bob", ctap2.LargeBlobKey())
			k.fails(t, keyPIN+"\n", "multiple credentials found", "-G", "-b", "-n", rpID, file("none"))
			k.says(t, "-S", "-b", "-n", rpID, "-i", encoded(bob.ID), file("blob"))
			descriptor := bob.Descriptor()
			if got, err := read(ctap2.LargeBlobRequest{RPID: rpID, Credential: &descriptor}); err != nil || !bytes.Equal(got, noise) {
				t.Errorf("ctap2 reads %d bytes: %v", len(got), err)
			}
			if got := theirs("-n", rpID, "-i", encoded(ada.ID)); !bytes.Equal(got, letter) {
				t.Errorf("fido2-token reads %d bytes", len(got))
			}

			// One that nobody has a credential for.
			put(ctap2.LargeBlobRequest{Key: pin.NewSecret(bytes.Repeat([]byte{7}, 32)), Data: letter})
			listed(3)
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
				n, err := a.CollectLargeBlobs(ctx, nil)
				if n != 1 {
					t.Errorf("%d blobs were stray", n)
				}
				return err
			})
			listed(2)

			// Delete.
			k.says(t, "-D", "-b", "-k", keyFile(ada))
			k.fails(t, "", "FIDO_ERR_NOTFOUND", "-G", "-b", "-k", keyFile(ada), file("none"))
			if _, err := read(ctap2.LargeBlobRequest{Key: ada.LargeBlobKey}); !errors.Is(err, ctap2.ErrNoLargeBlob) {
				t.Errorf("deleted by fido2-token: %v", err)
			}
			if got := theirs("-k", keyFile(bob)); !bytes.Equal(got, noise) {
				t.Errorf("fido2-token reads %d bytes", len(got))
			}
			k.says(t, "-D", "-b", "-n", rpID, "-i", encoded(bob.ID))
			listed(0)
		})
	}
}

func testTokenConfig(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"CTAP 2.1, protocol one": {Level: virtual.CTAP21, PINProtocols: []pin.Protocol{pin.One}, EnterpriseAttestation: true},
		"CTAP 2.3":               {EnterpriseAttestation: true},
	} {
		t.Run(name, func(t *testing.T) {
			k := plugInToken(t, config)
			info := func() (info *ctap2.Info) {
				t.Helper()
				compareInfo(t, k.path)
				k.ours(t, func(_ context.Context, a *ctap2.Authenticator) error {
					info = a.Info()
					return nil
				})
				return info
			}
			option := func(name string, want bool) {
				t.Helper()
				if got, ok := info().Options[name]; !ok || got != want {
					t.Errorf("option %s: %v, %v", name, got, ok)
				}
			}

			option(ctap2.OptionEnterpriseAttestation, false)
			k.says(t, "-S", "-a")
			option(ctap2.OptionEnterpriseAttestation, true)

			option(ctap2.OptionAlwaysUV, false)
			k.says(t, "-S", "-u")
			option(ctap2.OptionAlwaysUV, true)
			k.says(t, "-D", "-u")
			option(ctap2.OptionAlwaysUV, false)
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error { return a.ToggleAlwaysUV(ctx, nil) })
			k.says(t, "-S", "-u") // is on: nothing to do
			option(ctap2.OptionAlwaysUV, true)
			k.says(t, "-D", "-u")
			option(ctap2.OptionAlwaysUV, false)

			// told is the minimum as a relying party learns it, 0 if it does not.
			told := func(rpID string) int {
				t.Helper()
				length, err := ctap2.Output[ctap2.MinPINLengthOutput](k.makes(t, rpID, "ada", ctap2.MinPINLength()).Extensions)
				if err != nil {
					return 0
				}
				return int(length)
			}
			k.says(t, "-S", "-m", "one.example.com,two.example.com")
			for rpID, want := range map[string]int{"one.example.com": 4, "two.example.com": 4, "three.example.com": 0} {
				if got := told(rpID); got != want {
					t.Errorf("%s learns %d, want %d", rpID, got, want)
				}
			}
			k.says(t, "-S", "-l", "6")
			k.fails(t, keyPIN+"\n", "FIDO_ERR_PIN_POLICY_VIOLATION", "-S", "-l", "5")
			if got := told("two.example.com"); got != 6 || info().MinPINLength != 6 {
				t.Errorf("two.example.com learns %d", got)
			}
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
				return a.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{MinPINLengthRPIDs: []string{"three.example.com"}})
			})
			if one, three := told("one.example.com"), told("three.example.com"); one != 0 || three != 6 {
				t.Errorf("one.example.com learns %d, three.example.com %d", one, three)
			}

			k.says(t, "-S", "-f")
			if !info().ForcePINChange {
				t.Error("the PIN is still good")
			}
			k.fails(t, keyPIN+"\n", "FIDO_ERR_PIN_POLICY_VIOLATION", "-L", "-r")
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
				if _, err := a.GetCredsMetadata(ctx, nil); !errors.Is(err, ctap2.ErrPINChangeRequired) {
					t.Errorf("a PIN that has to be changed: %v", err)
				}
				return nil
			})
			change := func(from, to string) string { return from + "\n" + to + "\n" + to + "\n" }
			k.fails(t, change(keyPIN, keyPIN), "FIDO_ERR_PIN_POLICY_VIOLATION", "-C")
			k.fails(t, change(keyPIN, "31415"), "FIDO_ERR_PIN_POLICY_VIOLATION", "-C")
			works(t, change(keyPIN, "314159"), fido2Token, "-C", k.path)
			works(t, change("314159", keyPIN), fido2Token, "-C", k.path)
			if info().ForcePINChange {
				t.Error("the PIN is not good")
			}

			// Longer than the PIN that there is.
			k.ours(t, func(ctx context.Context, a *ctap2.Authenticator) error {
				return a.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{NewMinPINLength: 8})
			})
			if got := compareInfo(t, k.path); got["minpinlen"] != "8" || got["pin change required"] != "true" {
				t.Errorf("fido2-token says %q", got)
			}
		})
	}
}

func testTokenReset(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		k := plugInToken(t, virtual.Config{BuiltInUV: virtual.UVNotConfigured})
		k.makes(t, "example.com", "ada")
		for _, letters := range [][]string{{"-S", "-e"}, {"-S", "-l", "6"}, {"-S", "-u"}} {
			k.says(t, letters...)
		}
		var touched atomic.Bool
		k.key.SetPresence(func(context.Context, virtual.Prompt) virtual.Answer {
			touched.Store(true)
			return virtual.Approve
		})
		k.key.PowerCycle() // all that took time
		k.says(t, "-R")
		if !touched.Load() {
			t.Error("reset without a touch")
		}
		k.ours(t, func(_ context.Context, a *ctap2.Authenticator) error {
			info := a.Info()
			for _, option := range []string{ctap2.OptionClientPIN, ctap2.OptionUserVerification, ctap2.OptionAlwaysUV} {
				if on, ok := info.Options[option]; on || !ok {
					t.Errorf("option %s: %v, %v", option, on, ok)
				}
			}
			if info.MinPINLength != 4 || *info.RemainingDiscoverableCredentials != 25 {
				t.Errorf("PINs of %d, room for %d credentials", info.MinPINLength, *info.RemainingDiscoverableCredentials)
			}
			return nil
		})
		works(t, keyPIN+"\n"+keyPIN+"\n", fido2Token, "-S", k.path)
		k.fails(t, keyPIN+"\n", "FIDO_ERR_NO_CREDENTIALS", "-L", "-r")
	})
	t.Run("too late", func(t *testing.T) {
		k := plugInToken(t, virtual.Config{ResetWindow: time.Nanosecond})
		k.fails(t, "", "FIDO_ERR_NOT_ALLOWED", "-R")
	})
}
