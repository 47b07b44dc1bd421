// Package store is the durable state of the issuer: revocations, opaque tokens and
// signing keys. What a method has acknowledged survives kill -9; what it has not is
// not there by half.
package store

import "time"

// A Store holds the issuer's state. It is safe for concurrent use.
//
// An error that wraps [ErrUnavailable] means that nothing of the call was stored, and
// that a later try may succeed, as when the disk is full.
type Store interface {
	// Keys returns the signing keys in the order in which they were created.
	Keys() ([]Key, error)
	// ReplaceKeys stores keys in place of all that were there.
	ReplaceKeys(keys []Key) error

	// AddToken stores an opaque token under the SHA-256 of its text. One that is
	// there already is an error. An error wraps [ErrShare] when the token's client
	// has used up its share of the space.
	AddToken(sum [32]byte, token Token) error
	// Token returns the opaque token stored under sum, and whether there is one. It
	// may have expired.
	Token(sum [32]byte) (Token, bool, error)

	// Revoke stores revocation. Of two with the same kind and subject, the later
	// IssuedBy and the later Until count.
	Revoke(revocation Revocation) error
	// Revocations calls each with every revocation until it returns an error, which
	// it returns.
	Revocations(each func(Revocation) error) error

	// Sweep removes tokens that have expired and revocations that are over at now, a
	// bounded number in each transaction so that writers wait for no more than one.
	// It returns how many it removed.
	Sweep(now time.Time) (int, error)

	// Close waits for what is under way and releases the state. Methods called later
	// return an error.
	Close() error
}

// A Key is a signing key with its private part.
type Key struct {
	ID        string    // kid
	Algorithm string    // RFC 7518 section 3.1
	Private   []byte    // PKCS #8, DER
	Created   time.Time // since when it is published
	Activated time.Time // since when it signs; zero: it is the next one
	Retired   time.Time // since when it signs no more; zero: not yet
}

// A Token is an opaque token as the issuer knows it.
type Token struct {
	Client  string `json:",omitempty"` // whose share it counts in; "": in nobody's
	Expires time.Time
	Record  []byte // what the token says, in the issuer's own form
}

// A Revocation ends tokens.
type Revocation struct {
	Kind    Kind
	Subject string // what Kind says
	// Client is the application that asked for it, "" for an operator.
	Client string
	// IssuedBy is the time up to which tokens are revoked, for an application or a
	// partner; tokens issued later count.
	IssuedBy time.Time
	// Until is when the revocation may be forgotten; zero means never.
	Until time.Time
}

// Kind is what a revocation is of.
type Kind uint8

// The values of [Kind]. They are stored: never change one.
const (
	RevokedToken       Kind = 1 // Subject is the SHA-256 of the jti, 32 bytes
	RevokedApplication Kind = 2 // Subject is a client_id
	RevokedPartner     Kind = 3 // Subject is a partner's name
	RevokedCertificate Kind = 4 // Subject is a thumbprint, 43 characters: all tokens bound to it, for ever
)
