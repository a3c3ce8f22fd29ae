package cbor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCheck(t *testing.T) {
	const fine, lenient, never = 0, 1, 2 // accepted by both; by Lenient alone; by neither
	for _, tt := range []struct {
		name, data string
		want       int
	}{
		{"unsigned", "00", fine},
		{"largest unsigned", "1bffffffffffffffff", fine},
		{"negative", "3903e7", fine},
		{"bytes", "43010203", fine},
		{"text", "6161", fine},
		{"true", "f5", fine},
		{"null", "f6", fine},
		{"float16", "f93c00", fine},
		{"float64", "fb3ff199999999999a", fine},
		{"ordered keys", "a4 01 00 02 00 20 00 6161 00", fine},
		{"longer text key after shorter", "a2 6162 00 626161 00", fine},
		{"four levels", "81818180", fine},

		{"keys out of order", "a2 02 00 01 00", lenient},
		{"text keys out of order", "a2 626161 00 6162 00", lenient},
		{"not the shortest integer", "1801", lenient},
		{"not the shortest length", "5801 00", lenient},
		{"text not UTF-8", "61ff", lenient},
		{"five levels", "8181818180", lenient},
		{"sixteen levels", strings.Repeat("81", 15) + "80", lenient},
		{"tag", "c000", lenient},
		{"undefined", "f7", lenient},
		{"map key null", "a1 f6 00", lenient},

		{"nothing", "", never},
		{"trailing byte", "0000", never},
		{"cut head", "19 01", never},
		{"cut string", "42 01", never},
		{"cut array", "82 01", never},
		{"cut map", "a1 01", never},
		{"string longer than memory", "5b7fffffffffffffff", never},
		{"array longer than memory", "9bffffffffffffffff", never},
		{"map longer than memory", "bb7fffffffffffffff", never},
		{"reserved argument", "1c", never},
		{"indefinite bytes", "5f 4100 ff", never},
		{"indefinite array", "9f ff", never},
		{"indefinite map", "bf ff", never},
		{"break", "ff", never},
		{"reserved simple value", "f800", never},
		{"duplicate key", "a2 01 00 01 00", never},
		{"duplicate key in longer form", "a2 01 00 1801 00", never},
		{"duplicate key, not adjacent", "a3 02 00 01 00 02 00", never},
		{"duplicate text key", "a2 6161 00 6161 00", never},
		{"duplicate key out of order", "a3 6162 00 6161 00 6162 00", never},
		{"duplicate key inside", "a1 01 a2 01 00 01 00", never},
		{"duplicate key inside an array inside", "a1 01 81 a2 6161 00 6161 00", never},
		{"duplicate array key", "a3 8101 00 01 00 8101 00", never},
		{"seventeen levels", strings.Repeat("81", 16) + "80", never},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := unhex(t, tt.data)
			for rules, accepts := range map[Rules]bool{Lenient: tt.want <= lenient, Strict: tt.want == fine} {
				err := Check(data, rules)
				if (err == nil) != accepts {
					t.Errorf("rules %d: %v", rules, err)
				}
				if err != nil && !errors.Is(err, ErrMalformed) {
					t.Errorf("rules %d: %v is no ErrMalformed", rules, err)
				}
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	n, err := Prefix(unhex(t, "a10102 ffff"), Strict)
	if n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A map whose keys descend costs a sort; it must not cost a comparison of each
// pair.
func TestCheckManyKeysOutOfOrder(t *testing.T) {
	const n = 3000
	data := []byte{0xb9, n >> 8, n & 0xff}
	for i := n; i > 0; i-- {
		data = append(data, 0x19, byte(i>>8)|0x40, byte(i), 0x00)
	}
	if err := Check(data, Lenient); err != nil {
		t.Error(err)
	}
	data[3+1], data[3+2] = data[len(data)-3], data[len(data)-2]
	if err := Check(data, Lenient); err == nil {
		t.Error("first key repeated as last: accepted")
	}
}

func TestAppend(t *testing.T) {
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		want, err := Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendUint([]byte{1}, n); !bytes.Equal(got[1:], want) || got[0] != 1 {
			t.Errorf("%d: %x, want %x", n, got[1:], want)
		}
	}
	for _, n := range []int{0, 1, 23, 24, 255, 256, 65536} {
		v := bytes.Repeat([]byte("a"), n)
		for _, test := range []struct {
			got  []byte
			want any
		}{
			{AppendBytes(nil, v), v},
			{AppendText(nil, string(v)), string(v)},
			{append(AppendArray(nil, n), make([]byte, n)...), make([]int, n)},
		} {
			if want, err := Marshal(test.want); err != nil || !bytes.Equal(test.got, want) {
				t.Errorf("%d: %x, want %x, %v", n, test.got, want, err)
			}
		}
	}
	got := AppendUint(AppendText(AppendText(AppendText(AppendMap(nil, 2), "a"), "x"), "b"), 1)
	if want, err := Marshal(map[string]any{"b": 1, "a": "x"}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a map: %x, want %x, %v", got, want, err)
	}
}

func TestMarshalIsCanonical(t *testing.T) {
	data, err := Marshal(map[any]any{"bb": 1, "a": true, 10: []byte{1}, -1: "x", 1: map[string]int{"z": 1, "aa": 2}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(data, Strict); err != nil {
		t.Errorf("%x: %v", data, err)
	}
	if want := unhex(t, "a5 01 a2 617a 01 626161 02 0a 4101 20 6178 6161 f5 626262 01"); !bytes.Equal(data, want) {
		t.Errorf("%x, want %x", data, want)
	}
}

func TestUnmarshal(t *testing.T) {
	var v struct {
		A int    `cbor:"1,keyasint"`
		B []byte `cbor:"2,keyasint"`
	}
	if err := Unmarshal(unhex(t, "a2 02 4101 01 05"), &v); err != nil || v.A != 5 || len(v.B) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	for _, bad := range []string{"a1 01 6161", "a2 01 00 01 00", "a1 03 a2 01 00 01 00", "a1 01 c101", ""} {
		if err := Unmarshal(unhex(t, bad), &v); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestCursor(t *testing.T) {
	c := NewCursor(unhex(t, "ac 01 05 02 20 03 4101 04 6161 05 f5 06 82 01 02 07 a1 6161 f4 08 a1 01 02 18ff f6 19ffff 81 f6 20 6162 6178 00"), Strict)
	var keys []int64
	for key := range c.IntMap() {
		keys = append(keys, key)
		switch key {
		case 1:
			if v := c.Uint(); v != 5 {
				t.Errorf("Uint %d", v)
			}
		case 2:
			if v := c.Int(); v != -1 {
				t.Errorf("Int %d", v)
			}
		case 3:
			if v := c.BytesLen(1); len(v) != 1 || cap(v) != 1 {
				t.Errorf("Bytes %x", v)
			}
		case 4:
			if v := c.Text(); v != "a" {
				t.Errorf("Text %q", v)
			}
		case 5:
			if !c.Bool() {
				t.Error("Bool")
			}
		case 6:
			if c.Len() != 2 {
				t.Errorf("Len %d", c.Len())
			}
			for i := range c.Array() {
				if i == 0 {
					break // the rest is stepped over
				}
				t.Error("no break")
			}
		case 7:
			if !c.IsMap() {
				t.Error("no map")
			}
			for name := range c.TextMap() {
				if string(name) != "a" || c.Bool() {
					t.Errorf("TextMap %q", name)
				}
			}
		case 8:
			if v := c.Raw(); !bytes.Equal(v, []byte{0xa1, 1, 2}) {
				t.Errorf("Raw %x", v)
			}
		case 0xff:
			c.Skip()
		}
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	if want := []int64{1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xffff, -1}; len(keys) != len(want) || keys[10] != -1 {
		t.Errorf("keys %v", keys)
	}
}

// What a reflection-based decoder lets pass.
func TestCursorTypes(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		read       func(*Cursor)
	}{
		{"null for an integer", "f6", func(c *Cursor) { c.Uint() }},
		{"null for bytes", "f6", func(c *Cursor) { c.Bytes() }},
		{"null for a boolean", "f6", func(c *Cursor) { c.Bool() }},
		{"null for a map", "f6", func(c *Cursor) {
			for range c.IntMap() {
				t.Error("walked")
			}
		}},
		{"null for an array", "f6", func(c *Cursor) {
			for range c.Array() {
				t.Error("walked")
			}
		}},
		{"array for bytes", "8101", func(c *Cursor) { c.Bytes() }},
		{"bytes for text", "4161", func(c *Cursor) { c.Text() }},
		{"text for bytes", "6161", func(c *Cursor) { c.Bytes() }},
		{"negative for unsigned", "20", func(c *Cursor) { c.Uint() }},
		{"integer over the limit", "1903e8", func(c *Cursor) { c.UintMax(999) }},
		{"integer over 63 bits", "1bffffffffffffffff", func(c *Cursor) { c.Int() }},
		{"bytes of another length", "420102", func(c *Cursor) { c.BytesLen(3) }},
		{"map for a text map's value", "a16161a0", func(c *Cursor) {
			for range c.TextMap() {
				c.Bool()
			}
		}},
	} {
		c := NewCursor(unhex(t, tt.data), Strict)
		tt.read(c)
		if !errors.Is(c.Err(), ErrMalformed) {
			t.Errorf("%s: %v", tt.name, c.Err())
		}
		first := c.Err()
		if c.Uint() != 0 || c.Int() != 0 || c.Bool() || c.Bytes() != nil || c.Text() != "" || c.Raw() != nil || c.Len() != 0 || c.IsMap() {
			t.Errorf("%s: goes on after the error", tt.name)
		}
		if c.Skip(); c.Err() != first {
			t.Errorf("%s: %v became %v", tt.name, first, c.Err())
		}
	}
}

func TestCursorErrorNamesTheMember(t *testing.T) {
	c := NewCursor(unhex(t, "a1 03 a1 6161 f6"), Strict)
	for range c.IntMap() {
		for range c.TextMap() {
			c.Bytes()
		}
	}
	if err := c.Err(); err == nil || !strings.Contains(err.Error(), "member 0x03") || !strings.Contains(err.Error(), "null") {
		t.Error(err)
	}
	c = NewCursor(unhex(t, "a1 22 00"), Strict)
	for range c.IntMap() {
		c.Text()
	}
	if err := c.Err(); err == nil || !strings.Contains(err.Error(), "member -3") {
		t.Error(err)
	}
}

// A member that reads on behind its own value must not start the map anew.
func TestCursorReadTooFar(t *testing.T) {
	c := NewCursor(unhex(t, "a2 01 02 03 04"), Strict)
	var keys []int64
	for key := range c.IntMap() {
		keys = append(keys, key)
		c.Uint()
		c.Uint()
		c.Uint()
	}
	if len(keys) != 1 || c.off != len(c.data) {
		t.Errorf("keys %v, at byte %d", keys, c.off)
	}
}

// Keys of other types, and integers beyond 63 bits, are unknown members.
func TestCursorSkipsForeignKeys(t *testing.T) {
	c := NewCursor(unhex(t, "a4 01 05 1bffffffffffffffff 00 4101 00 6161 f5"), Strict)
	var ints, texts int
	for range c.IntMap() {
		ints++
	}
	c = NewCursor(unhex(t, "a3 01 05 4101 00 6161 f5"), Strict)
	for range c.TextMap() {
		texts++
	}
	if ints != 1 || texts != 1 {
		t.Errorf("%d integers, %d texts", ints, texts)
	}
	c = NewCursor(unhex(t, "82 a2 0105 0206 07"), Strict)
	for i := range c.Array() {
		if i == 0 {
			for range c.IntMap() {
				break
			}
		} else if c.Uint() != 7 {
			t.Error("a map left early is not stepped over")
		}
	}
}

func TestText(t *testing.T) {
	if s := NewCursor(unhex(t, "63 61 c3 62"), Lenient).Text(); s != "a\uFFFDb" {
		t.Errorf("%q", s)
	}
	data := unhex(t, "68 4649444f5f325f30")
	c := NewCursor(data, Strict)
	if n := testing.AllocsPerRun(10, func() { c.off = 0; c.Text() }); n != 0 {
		t.Errorf("an identifier of the specification costs %v allocations", n)
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"a10102", "a2020001 00", "8181818180", "a26162006161f6", "5fff", "fb3ff199999999999a", "c11a514b67b0", "a36162006161006162 00"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lenient, strict := Check(data, Lenient), Check(data, Strict)
		if strict == nil && lenient != nil {
			t.Fatalf("strict accepts what lenient refuses: %v", lenient)
		}
		if lenient == nil {
			if end := skip(data, 0); end != len(data) {
				t.Fatalf("skip stops at %d of %d", end, len(data))
			}
		}
		if strict == nil {
			// Decoded and encoded again, canonical CBOR is itself: fxamacker/cbor
			// as a second opinion.
			var v any
			if err := decMode.Unmarshal(data, &v); err == nil {
				again, err := Marshal(v)
				if err == nil && !bytes.Equal(again, data) && !hasFloat(v) {
					t.Fatalf("%x is canonical for us, %x for the library", data, again)
				}
			}
		}
		c := NewCursor(data, Lenient)
		for key := range c.IntMap() {
			switch key & 7 {
			case 0:
				c.Uint()
			case 1:
				c.Bytes()
			case 2:
				c.Text()
			case 3:
				for range c.Array() {
					c.Int()
				}
			case 4:
				for range c.TextMap() {
					c.Bool()
				}
			case 5:
				c.Raw()
			}
		}
		if lenient != nil && c.Err() == nil {
			t.Fatal("a cursor reads what Check refuses")
		}
	})
}

// hasFloat reports whether decoding v may have changed its form.
func hasFloat(v any) bool {
	switch v := v.(type) {
	case float64, float32:
		return true
	case []any:
		for _, e := range v {
			if hasFloat(e) {
				return true
			}
		}
	case map[any]any:
		for k, e := range v {
			if hasFloat(k) || hasFloat(e) {
				return true
			}
		}
	}
	return false
}

func BenchmarkCheck(b *testing.B) {
	data, err := Marshal(map[int]any{1: make([]byte, 200), 2: []string{"a", "b"}, 3: map[string]int{"x": math.MaxInt32}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(data, Strict); err != nil {
			b.Fatal(err)
		}
	}
}
