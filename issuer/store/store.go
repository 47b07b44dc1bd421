// Package store holds the durable state of the issuer: revocations, opaque tokens and signing
// keys. A change that a method has acknowledged survives kill -9. A change that it has not
// acknowledged is stored wholly or not at all.
package store

import "time"

// A Store holds the issuer's state. It is safe for concurrent use.
//
// An error that wraps [ErrUnavailable] means that the call stored nothing and that a retry may
// succeed, for example when the disk is full.
type Store interface {
	// Keys returns the signing keys in the order of their creation.
	Keys() ([]Key, error)
	// ReplaceKeys replaces the stored keys.
	ReplaceKeys(keys []Key) error

	// AddToken stores an opaque token under the SHA-256 of its text. A sum that is stored already
	// is an error. An error wraps [ErrShare] if the token's client has used its share of the space.
	AddToken(sum [32]byte, token Token) error
	// Token returns the opaque token stored under sum and whether it exists. It may have expired.
	Token(sum [32]byte) (Token, bool, error)

	// Revoke stores revocation. If a revocation of the same kind and subject is stored, the later
	// IssuedBy and the later Until are kept.
	Revoke(revocation Revocation) error
	// Revocations calls each with every revocation. It stops at the first error and returns it.
	Revocations(each func(Revocation) error) error

	// Sweep removes expired tokens and revocations whose Until is before now, and returns their
	// number. It removes a bounded number in each transaction, so that writers wait for one
	// transaction at most.
	Sweep(now time.Time) (int, error)

	// Close waits for calls in progress and closes the state. Later calls return an error.
	Close() error
}

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
	Client  string `json:",omitempty"` // the client whose share includes the token; "" for none
	Expires time.Time
	Record  []byte // the claims, in the issuer's encoding
}

// A Revocation revokes one or more tokens.
type Revocation struct {
	Kind    Kind
	Subject string // depends on Kind
	// Client is the client_id that requested the revocation, "" for an operator.
	Client string
	// IssuedBy is set for an application or a partner: its tokens issued up to this time are
	// revoked.
	IssuedBy time.Time
	// Until is when the revocation may be removed; zero means never.
	Until time.Time
}

// Kind is the kind of a revocation's subject.
type Kind uint8

// The values of [Kind]. They are stored and must never change.
const (
	RevokedToken       Kind = 1 // Subject is the SHA-256 of the jti, 32 bytes
	RevokedApplication Kind = 2 // Subject is a client_id
	RevokedPartner     Kind = 3 // Subject is a partner's name
	RevokedCertificate Kind = 4 // revokes all tokens bound to it, for ever
)
