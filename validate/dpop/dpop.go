// Package dpop checks DPoP proofs, RFC 9449 section 4.3. With a proof, a client proves for each
// request that it holds the private key of a public key. The package returns the key of a proof.
// Package validate decides whether a token is bound to this key.
package dpop

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
)

// Reasons why a proof is refused. Every error of [Checker.Check] and [Checker.Record] wraps one of
// these errors.
var (
	// ErrInvalid is returned for a proof that is missing or repeated, malformed, too old or too new,
	// wrongly signed, or made for another request or token.
	ErrInvalid = errors.New("invalid DPoP proof")
	// ErrNonce is returned for a proof that is valid except for its nonce: the nonce is missing, too old,
	// or not a nonce of this gate.
	ErrNonce = errors.New("the DPoP proof needs a nonce of the gate")
	// ErrReplayed is returned for a proof that the gate has accepted before.
	ErrReplayed = errors.New("the DPoP proof has been used before")
	// ErrShare is returned while the proofs of one owner fill the owner's share of the memory.
	ErrShare = errors.New("the partner's share of the memory for DPoP proofs is full")
	// ErrFull is returned while the memory is full.
	ErrFull = errors.New("the memory for DPoP proofs is full")
)

// proofType is the typ of a proof, RFC 9449 section 4.2.
const proofType = "dpop+jwt"

// maxProof bounds a proof in bytes. A proof with an RSA key of 4096 bits and the longest nonce in
// use has 2.5 KB; this is three times as much.
const maxProof = 8 << 10

// A Request has the proofs of a request and the values that a proof must match.
type Request struct {
	Proofs    []string // the DPoP headers
	Method    string
	Authority string // host and port as the client called them; without a port, 443
	Path      string // the path in the request line, without the query
	Token     [sha256.Size]byte
}

// A Proof is a proof that passed every check except [Checker.Record].
type Proof struct {
	Key   access.Thumbprint // the JWK thumbprint of the proof's key, RFC 7638
	id    identity
	until time.Time // when the proof becomes too old
	// NonceAge is the age of the proof's nonce; 0 if the proof has no nonce.
	NonceAge time.Duration
}

// identity is the SHA-256 of a proof's key and jti.
type identity [sha256.Size]byte

// A Checker checks proofs. It is safe for concurrent use.
type Checker struct {
	algorithms []config.Algorithm
	maxAge     time.Duration
	leeway     time.Duration
	needsNonce bool
	proofs     int
	nonces     *nonces
	seen       *memory
	earlier    time.Duration // max_age for proofs that were made at earlierEnd or before
	earlierEnd time.Time
}

// New returns a Checker for settings. previous is the Checker before a reload and may be nil. The new
// Checker shares the nonces and the memory of used proofs with previous.
func New(settings config.DPoP, previous *Checker, now time.Time) *Checker {
	c := &Checker{
		algorithms: settings.Algorithms, maxAge: settings.MaxAge, leeway: settings.Leeway,
		needsNonce: settings.Nonce == config.NonceRequired, proofs: settings.Proofs,
	}
	if previous == nil {
		c.nonces, c.seen, c.earlier = newNonces(), newMemory(), c.maxAge
		c.seen.keepFor(c.window())
		return c
	}
	c.nonces, c.seen = previous.nonces, previous.seen
	// The previous Checker stays in use until the reload succeeds, and after a reload that fails.
	c.seen.keepFor(max(c.window(), previous.window()))
	// The memory forgets a proof when the previous max_age has passed. A longer max_age would make
	// the forgotten proof acceptable again, so proofs that were made until now keep the previous
	// max_age. An earlier max_age also stays in force while a proof of its time could be accepted.
	c.earlier, c.earlierEnd = min(c.maxAge, previous.maxAge), now.Add(previous.leeway)
	if !now.After(previous.earlierEnd.Add(c.maxAge)) {
		c.earlier = min(c.earlier, previous.earlier)
		if previous.earlierEnd.After(c.earlierEnd) {
			c.earlierEnd = previous.earlierEnd
		}
	}
	return c
}

// window is how long a proof can be accepted after its first use: the proof may have been made leeway
// ahead of our clock, and is accepted for max_age after its time.
func (c *Checker) window() time.Duration { return c.maxAge + c.leeway }

// claims are the claims of a proof, RFC 9449 section 4.2.
type claims struct {
	ID       facts.Member `json:"jti"`
	Method   facts.Member `json:"htm"`
	URI      facts.Member `json:"htu"`
	IssuedAt facts.Member `json:"iat"`
	Token    facts.Member `json:"ath"`
	Nonce    facts.Member `json:"nonce"`
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// Check makes the checks of RFC 9449 section 4.3 on the proof of r, except the check for replay. The
// error wraps [ErrInvalid] or [ErrNonce], and quotes no secret of the proof.
func (c *Checker) Check(r *Request, now time.Time) (Proof, error) {
	if len(r.Proofs) != 1 {
		return Proof{}, invalid("%d DPoP headers, want one", len(r.Proofs))
	}
	if len(r.Proofs[0]) > maxProof {
		return Proof{}, invalid("longer than %d bytes", maxProof)
	}
	t, err := jwks.Parse(r.Proofs[0])
	if err != nil {
		return Proof{}, invalid("%w", errors.Unwrap(err))
	}
	thumbprint, err := c.verify(t)
	if err != nil {
		return Proof{}, err
	}
	var payload claims
	if err := json.Unmarshal(t.Payload, &payload); err != nil {
		return Proof{}, invalid("reading payload: %w", err)
	}
	proof := Proof{Key: thumbprint}
	if proof.id, proof.until, err = c.checkClaims(&payload, thumbprint, r, now); err != nil {
		return Proof{}, err
	}
	nonce, _ := payload.Nonce.Text()
	var known bool
	if proof.NonceAge, known = c.nonces.age(nonce, now); !known && c.needsNonce {
		return Proof{}, ErrNonce
	}
	return proof, nil
}

// verify checks type, algorithm, key and signature of t, and returns the thumbprint of its key.
func (c *Checker) verify(t *jwks.JWS) (access.Thumbprint, error) {
	if t.Type != proofType {
		return access.Thumbprint{}, invalid("typ is %q, want %s", access.Truncate(t.Type), proofType)
	}
	if !jwks.Accepts(c.algorithms, config.Algorithm(t.Algorithm)) {
		return access.Thumbprint{}, invalid("alg is %q, want one of dpop.algorithms", access.Truncate(t.Algorithm))
	}
	public, thumbprint, err := parseKey(t.JWK)
	if err != nil {
		return access.Thumbprint{}, invalid("jwk: %w", err)
	}
	if err := t.VerifyWith(public); err != nil {
		return access.Thumbprint{}, invalid("%w", err)
	}
	return thumbprint, nil
}

// checkClaims compares the claims with the request. It returns the proof's identity, and the time at
// which the proof becomes too old.
func (c *Checker) checkClaims(p *claims, key access.Thumbprint, r *Request, now time.Time) (_ identity, until time.Time, _ error) {
	id, ok := p.ID.Text()
	if !ok || id == "" {
		return identity{}, until, invalid("jti is not a string, or empty")
	}
	if method, ok := p.Method.Text(); !ok || method != r.Method {
		return identity{}, until, invalid("htm is %q, want %s", access.Truncate(method), access.Truncate(r.Method))
	}
	uri, ok := p.URI.Text()
	if !ok || !sameURI(uri, r.Authority, r.Path) {
		return identity{}, until, invalid("htu is %q, want https://%s%s", access.Truncate(loggable(uri)), access.Truncate(r.Authority), access.Truncate(r.Path))
	}
	until, err := c.checkAge(p.IssuedAt, now)
	if err != nil {
		return identity{}, until, err
	}
	token, ok := p.Token.Text()
	if want := base64.RawURLEncoding.EncodeToString(r.Token[:]); !ok || subtle.ConstantTimeCompare([]byte(token), []byte(want)) != 1 {
		return identity{}, until, invalid("ath is not the SHA-256 of the access token")
	}
	return identity(sha256.Sum256(append(key[:], id...))), until, nil
}

// checkAge checks iat and returns the time at which the proof becomes too old.
func (c *Checker) checkAge(iat facts.Member, now time.Time) (until time.Time, _ error) {
	made, err := iat.Time()
	if err != nil {
		return until, invalid("iat %w", err)
	}
	maxAge := c.maxAge
	if !made.After(c.earlierEnd) {
		maxAge = c.earlier
	}
	switch age := now.Sub(made); {
	case age > maxAge:
		return until, invalid("made %s ago, want at most dpop.max_age, %s", age.Round(time.Second), maxAge)
	case age < -c.leeway:
		return until, invalid("made %s in the future, want at most dpop.leeway, %s", (-age).Round(time.Second), c.leeway)
	}
	return made.Add(maxAge), nil
}

// Record remembers that the proof p of owner has been used, for as long as p could be accepted again.
// Between Check and Record a request may wait for introspection. If the memory may have forgotten a
// first use of p during the wait, Record refuses p as too old. The error wraps [ErrInvalid],
// [ErrReplayed], [ErrShare] or [ErrFull].
func (c *Checker) Record(p Proof, owner string, now time.Time) error {
	return c.seen.add(p, owner, now, c.proofs)
}

// Nonce returns a nonce for the client's next proofs, RFC 9449 section 8, or "" if the client needs
// no new nonce. p is the proof that the client sent, or zero if the client sent no valid proof.
func (c *Checker) Nonce(p Proof, now time.Time) string {
	if !c.needsNonce || p.NonceAge > 0 && p.NonceAge < nonceLifetime/2 {
		return ""
	}
	return c.nonces.next(now)
}

// Algorithms returns the accepted algorithms.
func (c *Checker) Algorithms() []config.Algorithm { return c.algorithms }
