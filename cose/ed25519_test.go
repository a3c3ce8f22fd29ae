package cose

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"
)

// onEd25519 against the definition: a square root, where it takes a Jacobi
// symbol and no inverse.
func TestEd25519Point(t *testing.T) {
	p := prime25519
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	d.Mul(d, big.NewInt(-121665))
	one := big.NewInt(1)
	decodes := func(point []byte) bool {
		b := slices.Clone(point)
		slices.Reverse(b)
		sign := b[0] >> 7
		b[0] &= 0x7F
		y := new(big.Int).SetBytes(b)
		if y.Cmp(p) >= 0 {
			return false
		}
		square := new(big.Int).Mul(y, y)
		u := new(big.Int).Sub(square, one)
		v := new(big.Int).Mul(d, square)
		v.Mod(v.Add(v, one), p)
		u.Mod(u.Mul(u, v.ModInverse(v, p)), p)
		x := new(big.Int).ModSqrt(u, p)
		return x != nil && (x.Sign() != 0 || sign == 0)
	}
	points := 0
	test := func(point []byte) {
		got := onEd25519(point)
		if want := decodes(point); got != want {
			t.Errorf("%x: %v, want %v", point, got, want)
		}
		if got {
			points++
		}
	}
	for i := range uint64(300) { // small y, both signs
		point := binary.LittleEndian.AppendUint64(nil, i)
		point = append(point, make([]byte, 24)...)
		test(point)
		point[31] = 0x80
		test(point)
	}
	if points < 200 || points > 400 {
		t.Errorf("%d of 600 decode, want about half", points)
	}
	for i := range byte(40) { // y around p: 0xED is p itself
		point := append([]byte{0xE0 + i%32}, slices.Repeat([]byte{0xFF}, 30)...)
		point = append(point, 0x7F+i/32*0x80)
		test(point)
	}
	for range 50 {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !onEd25519(pub) {
			t.Errorf("%x is a key and refused", pub)
		}
	}
}
