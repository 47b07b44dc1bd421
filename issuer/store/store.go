// Package store has the durable state of the issuer: revocations, opaque tokens and signing keys. A
// change survives kill -9 once a method has acknowledged it. A change that no method has acknowledged
// is stored completely or not at all.
package store

import "time"

// A Key is a signing key with its private part.
type Key struct {
	ID        string    // kid
	Algorithm string    // RFC 7518 section 3.1
	Private   []byte    // PKCS #8, DER
	Created   time.Time // when the key was first published
	Activated time.Time // when the key began to sign; zero for the next key
	Retired   time.Time // when the key stopped signing; zero for a key that signs
}

// A Token is the record of an opaque token.
type Token struct {
	Client  string `json:",omitempty"` // the client whose share includes the token; "" if no share includes it
	Expires time.Time
	Record  []byte // the claims, in the issuer's encoding
}

// A Revocation revokes one or more tokens.
type Revocation struct {
	Kind    Kind
	Subject string // its meaning depends on Kind
	// Client is the client_id of the client that requested the revocation, or "" if an operator
	// requested it.
	Client string
	// IssuedBy is set if the subject is an application or a partner: tokens that were issued to the
	// subject up to this time are revoked.
	IssuedBy time.Time
	// Until is the time after which the revocation may be removed; zero means never.
	Until time.Time
}

// Kind is the kind of a revocation's subject.
type Kind uint8

// The values of [Kind]. They are stored and must never change.
const (
	RevokedToken       Kind = 1 // Subject is the SHA-256 of the jti, 32 bytes
	RevokedApplication Kind = 2 // Subject is a client_id
	RevokedPartner     Kind = 3 // Subject is a partner's name
	RevokedCertificate Kind = 4 // Subject is a certificate's thumbprint; the revocation of all tokens bound to it never ends
)
