package webauthn

// Salts are what the key is given in place of the values.
func Salts(v *PRFValues) [][]byte { return v.salts() }
