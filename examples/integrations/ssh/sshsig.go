package main

import (
	"crypto/sha512"
	"encoding/pem"
	"io"

	"golang.org/x/crypto/ssh"
)

// magic begins both of what follows (OpenSSH, PROTOCOL.sshsig).
const magic = "SSHSIG"

// signedData is what is signed in place of the message.
type signedData struct {
	Namespace, Reserved, HashAlgorithm string
	Hash                               []byte
}

// signatureFile is what the file with the signature holds.
type signatureFile struct {
	Version                            uint32
	PublicKey                          []byte
	Namespace, Reserved, HashAlgorithm string
	Signature                          []byte
}

// sign returns the file of an SSH signature over the message, for a purpose.
func sign(signer ssh.Signer, namespace string, message io.Reader) ([]byte, error) {
	const hashAlgorithm = "sha512"
	hash := sha512.New()
	if _, err := io.Copy(hash, message); err != nil {
		return nil, err
	}
	signature, err := signer.Sign(nil, append([]byte(magic), ssh.Marshal(signedData{
		Namespace: namespace, HashAlgorithm: hashAlgorithm, Hash: hash.Sum(nil),
	})...))
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: append([]byte(magic), ssh.Marshal(signatureFile{
		Version:       1,
		PublicKey:     signer.PublicKey().Marshal(),
		Namespace:     namespace,
		HashAlgorithm: hashAlgorithm,
		Signature:     ssh.Marshal(signature),
	})...)}), nil
}
