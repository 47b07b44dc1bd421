// Package store has the durable state of the issuer: revocations, opaque tokens and signing keys. A
// change survives kill -9 once a method has acknowledged it. A change that no method has acknowledged
// is stored completely or not at all.
package store

import (
	"errors"
	"time"

	"github.com/tallygate/tallygate/revocation"
)

var (
	// ErrUnavailable means that a retry may succeed. A [File] has stored nothing. A database may have
	// stored the change if the connection was lost before the response.
	ErrUnavailable = errors.New("the state cannot be written now")
	// ErrClosed means that the state has been closed.
	ErrClosed = errors.New("the state is closed")
	// ErrExists means that the token is already stored.
	ErrExists = errors.New("the token is stored already")
	// ErrChanged means that the stored keys are not the keys that the caller wanted to replace.
	ErrChanged = errors.New("the stored signing keys have changed")
	// ErrUnpublished means that a key would sign before every process that shares the state publishes
	// it.
	ErrUnpublished = errors.New("the next signing key is too new to sign")
	// ErrShare means that the client has used its share of the stored tokens, and that nothing was
	// stored. A retry succeeds after some of the client's tokens have expired and a sweep has removed
	// them.
	ErrShare = errors.New("the client's share of the stored tokens is used up")
)

// A Key is a signing key with its private part.
type Key struct {
	ID        string    // kid
	Algorithm string    // RFC 7518 section 3.1
	Private   []byte    // PKCS #8, DER
	Created   time.Time // when the key was first published
	Activated time.Time // when the key began to sign; zero for the next key
	Retired   time.Time // when the key stopped signing; zero for a key that signs
}

// LeastPublished is how long a key must have been stored before it may sign, if several processes share
// the state. Each of them reads the keys more often than that.
const LeastPublished = time.Minute

// SameKeys reports whether a and b are the same keys, each next, active or retired in both. The
// order does not matter.
func SameKeys(a, b []Key) bool {
	if len(a) != len(b) {
		return false
	}
	type state struct{ activated, retired bool }
	states := make(map[string]state, len(a))
	for _, k := range a {
		states[k.ID] = state{!k.Activated.IsZero(), !k.Retired.IsZero()}
	}
	for _, k := range b {
		found, ok := states[k.ID]
		if !ok || found != (state{!k.Activated.IsZero(), !k.Retired.IsZero()}) {
			return false
		}
	}
	return true
}

// A Token is the record of an opaque token.
type Token struct {
	Client  string `json:",omitempty"` // the client whose share includes the token; "" if no share includes it
	Expires time.Time
	Record  []byte // the claims, in the issuer's encoding
}

// A Revocation revokes one or more tokens.
type Revocation struct {
	Kind    revocation.Kind
	Subject string `json:",omitempty"` // its meaning depends on Kind
	// Client is the client_id of the client, or the identifier of the other authorization server, that requested the
	// revocation, or "" if an operator requested it.
	Client string `json:",omitempty"`
	// IssuedBy is set for the kinds that revoke the tokens that were issued until a time.
	IssuedBy time.Time `json:",omitzero"`
	// Until is the time after which the revocation may be removed; zero means never.
	Until time.Time `json:",omitzero"`
	// Actor is the operator who requested the revocation. If it is not "", Revoke writes an [AuditRecord] with Actor and
	// Reason, a free text, in the same transaction. Both are "" in what Revocations and Follow return.
	Actor  string `json:"-"`
	Reason string `json:"-"`
}

// Entry returns what r revokes, without who requested it.
func (r *Revocation) Entry() revocation.Entry {
	return revocation.Entry{Kind: r.Kind, Subject: r.Subject, IssuedBy: r.IssuedBy, Until: r.Until}
}

// A Page is a part of a log of revocations. A reader that knows every revocation up to After knows every
// revocation up to Seq when it has taken over Additions, which are in the order of their numbers. Numbers are missing
// where a revocation has expired or was extended. A page with After = Seq has no additions, and says that at the time
// of the reading nothing was stored behind After.
type Page struct {
	Epoch      string // as in [revocation.Position]
	After, Seq uint64
	Additions  []Addition
}

// An Addition is a revocation at its number in a log.
type Addition struct {
	Revocation
	Seq    uint64
	Stored time.Time // when the revocation, or its last extension, was stored
}
