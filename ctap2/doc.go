// Package ctap2 speaks the Client to Authenticator Protocol, CTAP 2.0 to 2.3,
// and CTAP1/U2F, to one security key: it registers credentials, signs in with
// them, manages what the key holds, and obtains user verification on the way.
//
// # A key
//
// [Open] takes a [Transport]: the devices of packages hid and nfc are some, and
// the software authenticator of package virtual is one for tests. Package keys
// finds what is attached to this machine.
//
//	key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
//		PIN:   askPIN,
//		Touch: func(ctap2.TouchRequest) { fmt.Println("Touch your key now.") },
//	}))
//	defer key.Close()
//
// [Authenticator.Info] tells what it can do.
//
// # Register and sign in
//
// [Authenticator.MakeCredential] returns a [Credential], whose PublicKey the
// relying party keeps; [Authenticator.GetAssertion] returns one [Assertion] for
// each account, which [Assertion.Verify] checks against it. Package attestation
// says who vouches for a credential.
//
// Extensions are values that go into a request, such as [HMACSecret] or
// [CredProtect]; [Output] finds what came back. Any other is a [RawExtension],
// or a type of the program's own.
//
// # Manage a key
//
// What else there is to a key has a method each: its PIN
// ([Authenticator.SetPIN], [Authenticator.ChangePIN]), the credentials it keeps
// ([Authenticator.EnumerateCredentials], [Authenticator.UpdateUserInformation],
// [Authenticator.DeleteCredential]), fingerprints
// ([Authenticator.EnrollFingerprint] and its like), blobs
// ([Authenticator.PutLargeBlob]), settings ([Authenticator.SetMinPINLength],
// [Authenticator.ToggleAlwaysUV] and others), [Authenticator.Reset]. What a key
// does not have is [ErrUnsupported], and not sent.
//
// [Authenticator.Command] sends any other command; methods that begin with U2F
// send U2F's own messages. [Trace] writes down what is said, with secrets left
// out, and [Record] in a form that [Play] can play back.
//
// # User verification
//
// A program says what it wants with [UserVerification], and how to reach the
// person with [Interaction]. The rest follows from the key: fingerprint or
// PIN, with permissions or of the old kind, again after a wrong one, and the
// PIN where the fingerprint fails. Where one verification shall serve many
// commands, a program holds a [Token] itself, which most requests take.
//
// # Errors
//
// What the key answers is a [Status], found with errors.Is in an [*Error];
// a wrong PIN is a [*PINError] with the tries left. [ErrDeviceGone] and the
// other errors of transports are the same values there and here.
//
// # Cancelling
//
// Every method takes a context first. When it ends, the key is told to cancel,
// and the method returns within the transport's bound, whatever the key does.
// A credential that the key had made by then is returned as if nothing had
// happened: it must not be lost.
//
// # Transactions
//
// A transaction with a key takes longer than anything that is done here. What
// each call costs on an open key, where getKeyAgreement (KA) and the token come
// first if a PIN is needed:
//
//	open                                        2  INIT, getInfo
//	register, no PIN set                        1  makeCredential
//	register with PIN                           3  KA, token, makeCredential
//	sign in with PIN                            3  KA, token, getAssertion
//	sign in with PIN, allow list of 20          3  one message holds it
//	the same, 8 to a list                       5  KA, token, two silent searches, then one touch
//	40 credential IDs of 241 bytes              2  one silent search of what a message holds, then the rest
//	sign in with PIN, three accounts            5  KA, token, getAssertion, twice getNextAssertion
//	set a PIN                                   2  KA, setPIN
//	change the PIN                              2  KA, changePIN
//	list 10 credentials of 3 parties           15  KA, token, 3 of parties, 10 of credentials
//	write a blob of 1000 bytes                  5  KA, token (ga and lbw), getAssertion, read, write
//	read it                                     4  KA, token, getAssertion, read
//	read it, its key at hand                    1  read
//	hmac-secret with PIN                        3  one KA serves the token and the salts
//
// A shared secret is kept within one call only: after another program's wrong
// PIN the key has a new key agreement key, and a right PIN under the old secret
// costs a try.
//
// # Replies
//
// Keys are not trusted. A reply that is not CBOR, repeats a map key, lacks a
// required member or has it with another type is [ErrMalformed]; members,
// options, algorithms and statuses that this package does not know are kept.
package ctap2
