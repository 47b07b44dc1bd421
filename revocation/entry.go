// Package revocation has the set of revocations that a process knows, the rules by which the set revokes
// a token, and the messages that carry revocations from an issuer to its gates.
package revocation

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
)

// A Kind says what a revocation revokes.
type Kind uint8

// The values of [Kind]. They are stored and must never change.
const (
	Token          Kind = 1 // Subject is the SHA-256 of the jti of a token of our own issuer, 32 bytes
	Application    Kind = 2 // Subject is a client_id: the tokens issued to it until IssuedBy
	Partner        Kind = 3 // Subject is a partner's name: the tokens issued to its applications until IssuedBy
	Certificate    Kind = 4 // Subject is a certificate's thumbprint as text: the certificate and every token bound to it, for ever
	ForeignToken   Kind = 5 // Subject is a [ForeignTokenSum] of another authorization server's token, 32 bytes
	ForeignSubject Kind = 6 // Subject is a [ForeignSubjectName] at another authorization server: the tokens issued to it until IssuedBy
)

var kindNames = map[Kind]string{
	Token: "token", Application: "application", Partner: "partner", Certificate: "certificate",
	ForeignToken: "foreign_token", ForeignSubject: "foreign_subject",
}

// Kinds returns all kinds in the order of their values.
func Kinds() []Kind {
	return []Kind{Token, Application, Partner, Certificate, ForeignToken, ForeignSubject}
}

// String returns the name of k in metrics, in lists of revocations and on the console, or "" for an unknown kind.
func (k Kind) String() string { return kindNames[k] }

// An Entry is one revocation.
type Entry struct {
	Kind     Kind
	Subject  string    // its meaning depends on Kind
	IssuedBy time.Time // for the kinds that revoke the tokens that were issued until a time; otherwise zero
	Until    time.Time // the time after which the entry may be removed; zero means never
}

// ForeignRetention is how long the revocation of another server's token or subject is kept. An event does not say when
// the revoked tokens expire, and no setting bounds the lifetime of another server's tokens. Access tokens live for
// minutes, seldom for a day; 31 days include servers whose tokens live for a month. Without an end, a server
// that reports each logout would fill the set within months.
const ForeignRetention = 31 * 24 * time.Hour

// ForeignTokenSum returns the Subject of the revocation of the token with this jti that the authorization server with the
// identifier iss issued: the exclusive or of the SHA-256 of both. The sum includes iss, because two servers may use the same
// jti. iss is hashed separately, so that a gate computes this hash once for each server.
func ForeignTokenSum(iss, jti string) string {
	sum := foreignSum(sumOf(iss), jti)
	return string(sum[:])
}

func foreignSum(iss [sha256.Size]byte, jti string) [sha256.Size]byte {
	sum := sumOf(jti)
	subtle.XORBytes(sum[:], sum[:], iss[:])
	return sum
}

// sumOf returns the SHA-256 of text. Texts up to 128 bytes need no allocation.
func sumOf(text string) [sha256.Size]byte {
	var buffer [128]byte
	return sha256.Sum256(append(buffer[:0], text...))
}

// ForeignSubjectName returns the Subject of the revocation of the tokens of subject at the authorization
// server with the identifier iss. subject is compared with both sub and client_id of a token.
func ForeignSubjectName(iss, subject string) string { return iss + "\x00" + subject }

var errEntry = errors.New("a revocation must have exactly one subject of a known form, and issued_by if it revokes the tokens issued until a time")

// Label returns Subject for operators. A token is shown by the first 64 bits of its hash, which for a token of our own
// issuer is the jti_hash of the log, and a subject at another authorization server is followed by its issuer.
func (e *Entry) Label() string {
	switch e.Kind {
	case Token, ForeignToken:
		return hex.EncodeToString([]byte(e.Subject[:min(8, len(e.Subject))]))
	case ForeignSubject:
		iss, subject, _ := strings.Cut(e.Subject, "\x00")
		return subject + " at " + iss
	case Application, Partner, Certificate:
		return e.Subject
	}
	return ""
}

// Check returns an error unless e has a known kind, a subject of the kind's form, and IssuedBy exactly if
// the kind has one.
func (e *Entry) Check() error {
	good := false
	switch e.Kind {
	case Token, ForeignToken:
		good = len(e.Subject) == sha256.Size && e.IssuedBy.IsZero()
	case Certificate:
		_, err := access.ParseThumbprint(e.Subject)
		good = err == nil && e.IssuedBy.IsZero()
	case Application, Partner, ForeignSubject:
		good = e.Subject != "" && !e.IssuedBy.IsZero()
	}
	if !good {
		return errEntry
	}
	return nil
}
