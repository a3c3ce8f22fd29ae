package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

type blobsResult struct {
	Blobs []blobEntry `json:"blobs"`
	Other int         `json:"other" doc:"blobs of credentials that the key no longer has, which 'blob clean' removes"`
	Room  int         `json:"room" doc:"bytes that all blobs together can take"`
	Left  int         `json:"left" doc:"of these; another blob takes some 40 bytes besides its own, which are compressed"`
}

type blobEntry struct {
	Site string   `json:"site"`
	User string   `json:"user,omitempty"`
	ID   hexBytes `json:"id" doc:"the credential's"`
	Size int      `json:"size" doc:"bytes"`
}

func (r blobsResult) text(w *printer) {
	if len(r.Blobs) > 0 {
		rows := [][]string{{"CREDENTIAL", "SITE", "USER", "BYTES"}}
		for _, b := range r.Blobs {
			rows = append(rows, []string{b.ID.short(), b.Site, b.User, fmt.Sprint(b.Size)})
		}
		w.table(rows)
	}
	w.printf("%s; room for %d bytes in all, of which %d are left\n", count(len(r.Blobs), "blob", "blobs"), r.Room, r.Left)
	if r.Other > 0 {
		w.printf("%s of deleted credentials, which fidoctl blob clean removes\n", count(r.Other, "blob", "blobs"))
	}
}

type blobResult struct {
	Blob []byte `json:"blob" doc:"base64"`
}

func (r blobResult) text(w *printer) {
	if w.terminal { // where a stranger's bytes could do anything
		w.printf("%s\n", string(r.Blob))
	} else {
		w.Write(r.Blob)
	}
}

func (p *program) blobCommand() *cobra.Command {
	const which = "CREDENTIAL is the beginning of its ID, its site or its account's name; on keys that\ncannot list their credentials, its site."
	var out string
	get := &cobra.Command{
		Use:   "get CREDENTIAL",
		Short: "Read the blob of a credential",
		Long:  "Get writes the blob to standard output, or to --out.\n" + which,
		Example: `  fidoctl blob get example.com
  fidoctl blob get ada@example.com --out note.txt`,
		Args: named,
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			if err := p.notPlayed("blobs"); err != nil {
				return nil, err
			}
			file, err := newOutFile(out)
			if err != nil {
				return nil, err
			}
			defer file.drop()
			target, end, err := key.blobOf(ctx, args[0])
			if err != nil {
				return nil, err
			}
			defer end()
			data, err := key.GetLargeBlob(ctx, target)
			if err != nil {
				return nil, err
			}
			if file == nil {
				return blobResult{data}, nil
			}
			if err := file.fill(data); err != nil { // reading it again does no harm
				return nil, err
			}
			return wrote(data), nil
		}),
	}
	get.Flags().StringVar(&out, "out", "", "the `file` to write it to")
	return group("blob", "Keep small pieces of data on the key, each with a credential", "  fidoctl blob list",
		&cobra.Command{
			Use:     "list",
			Short:   "List the blobs on the key, by credential",
			Example: "  fidoctl blob list",
			Args:    arguments,
			RunE:    p.withKey(listBlobs),
		},
		get,
		&cobra.Command{
			Use:   "put CREDENTIAL FILE",
			Short: "Write the blob of a credential",
			Long:  "Put asks before it replaces a blob that the credential has already. FILE may be -,\nfor standard input.\n" + which,
			Example: `  fidoctl blob put example.com note.txt
  ssh-keygen -L -f id-cert.pub | fidoctl blob put --yes example.com -`,
			Args: named,
			RunE: p.withKey(p.putBlob),
		},
		&cobra.Command{
			Use:     "delete CREDENTIAL",
			Short:   "Delete the blob of a credential",
			Long:    which,
			Example: "  fidoctl blob delete example.com",
			Args:    named,
			RunE:    p.withKey(p.deleteBlob),
		},
		&cobra.Command{
			Use:     "clean",
			Short:   "Delete blobs of credentials that are no longer on the key",
			Example: "  fidoctl blob clean",
			Args:    arguments,
			RunE:    p.withKey(p.cleanBlobs),
		})
}

func listBlobs(ctx context.Context, key *session, _ []string) (result, error) {
	r, token, err := key.blobs(ctx)
	if err != nil {
		return nil, err
	}
	token.Wipe()
	return *r, nil
}

// cleanBlobs says how many blobs nothing on the key opens, and deletes them.
func (p *program) cleanBlobs(ctx context.Context, key *session, _ []string) (result, error) {
	r, token, err := key.blobs(ctx)
	if err != nil {
		return nil, err
	}
	defer token.Wipe()
	n := 0
	if r.Other > 0 {
		if err := p.confirm(ctx, "Delete %s of credentials that this key does not list?", count(r.Other, "blob", "blobs")); err != nil {
			return nil, err
		}
		if n, err = key.CollectLargeBlobs(ctx, token); err != nil {
			return nil, err
		}
	}
	return done{fmt.Sprintf("Deleted %s.", count(n, "blob", "blobs"))}, nil
}

// blobOverhead is what the array takes without its elements: the digest, and as
// long a header as any key's needs (§6.10.2).
const blobOverhead = 16 + 3

// blobs finds out whose the blobs on the key are, under a token for more such
// commands, which the caller wipes.
func (s *session) blobs(ctx context.Context) (found *blobsResult, token *ctap2.Token, err error) {
	if err := s.p.notPlayed("blobs"); err != nil {
		return nil, nil, err
	}
	array, err := s.LargeBlobArray(ctx)
	if err != nil {
		return nil, nil, err
	}
	credentials, token, err := s.credentials(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		for _, c := range credentials {
			c.LargeBlobKey.Wipe()
		}
		if err != nil {
			token.Wipe()
		}
	}()
	r := blobsResult{Blobs: []blobEntry{}, Other: len(array), Room: s.Info().MaxSerializedLargeBlobArray}
	r.Left = r.Room - blobOverhead
	for _, b := range array {
		r.Left -= len(b.Raw)
	}
	r.Left = max(r.Left, 0)
	for _, c := range credentials {
		if c.LargeBlobKey.Len() == 0 {
			continue
		}
		for i := range array {
			data, err := array[i].Open(c.LargeBlobKey)
			if errors.Is(err, ctap2.ErrNoLargeBlob) {
				continue
			}
			if err != nil {
				return nil, token, err
			}
			r.Blobs = append(r.Blobs, blobEntry{Site: c.RP.ID, User: c.User.Name, ID: c.Credential.ID, Size: len(data)})
			r.Other--
			break
		}
	}
	return &r, token, nil
}

// blobOf returns what to ask for the blob of the credential that the person
// means, and a function to call in the end.
func (s *session) blobOf(ctx context.Context, name string) (*ctap2.LargeBlobRequest, func(), error) {
	s.p.keepsPIN = true // for the assertions that it may take
	credentials, token, err := s.credentials(ctx, "")
	if errors.Is(err, ctap2.ErrUnsupported) || errors.Is(err, ctap2.ErrNotSetUp) {
		return &ctap2.LargeBlobRequest{RPID: rpIDOf(name)}, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := find(credentials, name)
	if err != nil {
		wipe(token, credentials)
		return nil, nil, err
	}
	if c.LargeBlobKey.Len() == 0 { // the key keeps the blob with the credential, or there is none to be had
		wipe(token, credentials)
		return &ctap2.LargeBlobRequest{RPID: c.RP.ID, Credential: &c.Credential}, func() {}, nil
	}
	return &ctap2.LargeBlobRequest{Key: c.LargeBlobKey, Token: token}, func() { wipe(token, credentials) }, nil
}

func (p *program) putBlob(ctx context.Context, key *session, args []string) (result, error) {
	data, err := p.readFile(args[1])
	if err != nil {
		return nil, err
	}
	target, end, err := key.blobOf(ctx, args[0])
	if err != nil {
		return nil, err
	}
	defer end()
	if !p.yes {
		old, err := key.GetLargeBlob(ctx, target)
		switch {
		case errors.Is(err, ctap2.ErrNoLargeBlob):
		case err != nil:
			return nil, err
		default:
			if err := p.confirm(ctx, "Replace the blob of %s (%s)?", args[0], count(len(old), "byte", "bytes")); err != nil {
				return nil, err
			}
		}
	}
	target.Data = data
	if err := key.PutLargeBlob(ctx, target); err != nil {
		if room := key.Info().MaxSerializedLargeBlobArray; room > 0 && errors.Is(err, ctap2.ErrLargeBlobStorageFull) {
			err = fmt.Errorf("%s, and the key keeps %d of all blobs together: %w", count(len(data), "byte", "bytes"), room, err)
		}
		return nil, err
	}
	return wrote(data), nil
}

func wrote(data []byte) done {
	return done{fmt.Sprintf("Wrote %s.", count(len(data), "byte", "bytes"))}
}

func (p *program) deleteBlob(ctx context.Context, key *session, args []string) (result, error) {
	target, end, err := key.blobOf(ctx, args[0])
	if err != nil {
		return nil, err
	}
	defer end()
	if err := p.confirm(ctx, "Delete the blob of %s?", args[0]); err != nil {
		return nil, err
	}
	if err := key.DeleteLargeBlob(ctx, target); err != nil {
		return nil, err
	}
	return done{"Deleted the blob."}, nil
}
