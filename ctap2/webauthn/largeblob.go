package webauthn

import (
	"errors"
	"slices"

	"github.com/tapstone/fido/ctap2"
)

// LargeBlobInputs are the inputs of largeBlob (WebAuthn §10.1.5): data that is
// stored on the key, with a credential.
type LargeBlobInputs struct {
	// Support asks, in a registration, for a credential that can have a blob:
	// Required or Preferred, which it is if it is empty. Most keys can do it for
	// discoverable credentials alone.
	Support string `json:"support,omitempty"`
	// Read asks for the blob in a sign-in.
	Read bool `json:"read,omitempty"`
	// Write is stored in a sign-in, in place of what was there, and may be empty.
	// There must be exactly one of AllowCredentials.
	Write Base64URL `json:"write,omitzero"`
}

// LargeBlobOutputs are the outputs of largeBlob. Absent ones are nil.
type LargeBlobOutputs struct {
	Supported *bool     // in a registration
	Blob      Base64URL // the blob, if there is one that could be read
	Written   *bool     // whether Write was stored
}

func (o object) largeBlob() *LargeBlobInputs {
	o, ok := o.object("largeBlob")
	if !ok {
		return nil
	}
	in := new(LargeBlobInputs)
	if o.raw("support") != nil {
		in.Support = Preferred // so is a value that is not known
		o.readValue("support", &in.Support, supports)
	}
	o.read("read", &in.Read)
	o.read("write", &in.Write)
	return in
}

// maxLargeBlob is the largest blob that package ctap2 writes.
const maxLargeBlob = 1 << 20

// A key keeps large blobs with the credentials (extension largeBlob of CTAP
// 2.3), or all in one array, for which each credential has a key (extension
// largeBlobKey).

func blobsWithCredentials(info *ctap2.Info) bool { return info.HasExtension("largeBlob") }

func blobsInArray(info *ctap2.Info) bool {
	return info.HasExtension("largeBlobKey") && info.Options[ctap2.OptionLargeBlobs]
}

func (in *LargeBlobInputs) checkRegistration() error {
	switch {
	case in == nil:
		return nil
	case in.Read || in.Write != nil:
		return refuse(ErrNotSupported, "largeBlob.read and largeBlob.write belong in a sign-in")
	}
	return checkValue("largeBlob.support", in.Support, supports)
}

func (in *LargeBlobInputs) checkAuthentication(allowed []CredentialDescriptor) error {
	switch {
	case in == nil:
	case in.Support != "":
		return refuse(ErrNotSupported, "largeBlob.support belongs in a registration")
	case in.Read && in.Write != nil:
		return refuse(ErrNotSupported, "largeBlob.read and largeBlob.write in one request")
	case in.Write != nil && len(allowed) != 1:
		return refuse(ErrNotSupported, "largeBlob.write takes exactly one of allowCredentials, not %d", len(allowed))
	}
	return nil
}

func (r *registration) largeBlob() error {
	in := r.options.Extensions.LargeBlob
	if in == nil {
		return nil
	}
	supported := new(bool)
	r.outputs.LargeBlob = &LargeBlobOutputs{Supported: supported}
	switch {
	case blobsWithCredentials(r.info):
		r.request.Extensions = append(r.request.Extensions, ctap2.LargeBlobSupport(in.Support == Required))
		r.after = append(r.after, func(c *ctap2.Credential) error {
			said, err := ctap2.Output[ctap2.LargeBlobSupported](c.Extensions)
			*supported = err == nil && bool(said)
			return nil
		})
	case blobsInArray(r.info) && r.request.ResidentKey:
		r.request.Extensions = append(r.request.Extensions, ctap2.LargeBlobKey())
		r.after = append(r.after, func(c *ctap2.Credential) error {
			*supported = c.LargeBlobKey.Len() > 0
			return nil
		})
	case in.Support == Required && blobsInArray(r.info):
		return refuse(ErrNotSupported, "largeBlob is required, which takes a discoverable credential")
	case in.Support == Required:
		return refuse(ErrNotSupported, "largeBlob is required, and the key has no large blobs")
	}
	if in.Support == Required {
		r.after = append(r.after, func(c *ctap2.Credential) error {
			if !*supported {
				return refuse(ErrNotAllowed, "the key made the credential %v without a large blob, which is required", Base64URL(c.ID))
			}
			return nil
		})
	}
	return nil
}

func (a *authentication) largeBlob() error {
	in := a.options.Extensions.LargeBlob
	if in == nil {
		return nil
	}
	if in.Read || in.Write != nil {
		a.outputs.LargeBlob = new(LargeBlobOutputs)
	}
	switch {
	case in.Read:
		a.readLargeBlob()
	case in.Write != nil:
		a.outputs.LargeBlob.Written = new(bool)
		a.writeLargeBlob(in.Write, a.outputs.LargeBlob.Written)
	}
	return nil
}

func (a *authentication) readLargeBlob() {
	switch {
	case blobsWithCredentials(a.info):
		a.request.Extensions = append(a.request.Extensions, ctap2.LargeBlobRead())
		a.after = append(a.after, func(assertion *ctap2.Assertion) {
			if blob, err := ctap2.Output[ctap2.LargeBlobContent](assertion.Extensions); err == nil {
				a.outputs.LargeBlob.Blob = Base64URL(blob)
			}
		})
	case blobsInArray(a.info):
		a.request.Extensions = append(a.request.Extensions, ctap2.LargeBlobKey())
		a.after = append(a.after, func(assertion *ctap2.Assertion) {
			if assertion.LargeBlobKey.Len() == 0 {
				return
			}
			if blob, err := a.key.GetLargeBlob(a.ctx, &ctap2.LargeBlobRequest{Key: assertion.LargeBlobKey}); err == nil {
				a.outputs.LargeBlob.Blob = blob
			}
		})
	}
}

func (a *authentication) writeLargeBlob(blob Base64URL, written *bool) {
	switch {
	case blobsWithCredentials(a.info):
		if len(blob) > maxLargeBlob {
			return
		}
		a.request.Extensions = append(a.request.Extensions, ctap2.LargeBlobWrite(blob))
		a.before = append(a.before, a.authorize) // for a second assertion without it
		a.tooLarge = func() {
			a.request.Extensions = slices.DeleteFunc(a.request.Extensions, func(e ctap2.Extension) bool { return e.Identifier() == "largeBlob" })
		}
		a.after = append(a.after, func(assertion *ctap2.Assertion) {
			said, err := ctap2.Output[ctap2.LargeBlobWritten](assertion.Extensions)
			*written = err == nil && bool(said)
		})
	case blobsInArray(a.info):
		a.request.Extensions = append(a.request.Extensions, ctap2.LargeBlobKey())
		a.permissions |= ctap2.PermissionLargeBlobWrite
		a.before = append(a.before, a.authorize)
		a.after = append(a.after, func(assertion *ctap2.Assertion) {
			if assertion.LargeBlobKey.Len() == 0 {
				return
			}
			request := &ctap2.LargeBlobRequest{Key: assertion.LargeBlobKey, Data: blob, Token: a.request.Token}
			err := a.key.PutLargeBlob(a.ctx, request)
			if errors.Is(err, ctap2.ErrPINAuthInvalid) && request.Token != nil { // it has ended meanwhile
				request.Token = nil
				err = a.key.PutLargeBlob(a.ctx, request)
			}
			*written = err == nil
		})
	}
}
