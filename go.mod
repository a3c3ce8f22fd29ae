module github.com/tapstone/fido

go 1.25.0

require (
	filippo.io/mldsa v1.0.0
	github.com/cloudflare/circl v1.6.5
	github.com/decred/dcrd/dcrec/secp256k1/v4 v4.4.1
	github.com/ebfe/scard v0.0.0-20241214075232-7af069cabc25
	github.com/ebitengine/purego v0.11.2
	github.com/fxamacker/cbor/v2 v2.9.6
	github.com/karalabe/hid v1.0.1-0.20240306101548-573246063e52
	golang.org/x/term v0.45.0
	golang.org/x/text v0.41.0
)

require (
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/crypto v0.54.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
