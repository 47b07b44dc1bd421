package validate

import (
	"errors"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/validate/dpop"
)

// newChecker returns the Checker for options, or nil without settings for DPoP. The lease keeps the
// last Checker, so that no used proof is forgotten when a reload turns DPoP off and a later reload
// turns it on.
func newChecker(options Options, now func() time.Time) *dpop.Checker {
	checker, _ := reuse.Acquire(options.Lease, "dpop", nil, func(previous *dpop.Checker) (*dpop.Checker, error) {
		if options.DPoP == nil {
			return previous, nil
		}
		return dpop.New(*options.DPoP, previous, now()), nil
	}, nil)
	if options.DPoP == nil {
		return nil
	}
	return checker
}

// A Proof is the proof of possession of a request, RFC 9449. The gate checks a proof once. A recheck
// of the same request, for an open stream, uses the key that was proved when the stream began,
// because by then the proof is too old, and the memory of used proofs has it.
type Proof struct {
	// Authority is the host and port that the client called, which a front proxy may know better than
	// the request. Path is the path as the client sent it.
	Authority, Path string

	request  dpop.Request
	checked  bool
	proof    dpop.Proof
	err      error
	recorded bool // the memory has the proof
}

func newProof(r *http.Request) *Proof {
	return &Proof{
		Authority: r.Host, Path: r.URL.EscapedPath(),
		request: dpop.Request{Proofs: r.Header["Dpop"], Method: r.Method},
	}
}

// A presentation is how a request presents its token. The binding of the token is compared with it.
type presentation struct {
	Credentials
	sum  facts.Sum
	cert *access.Certificate
	now  time.Time
}

// checkKey returns [access.Granted] if key, the jkt of a token of s or zero, fits p. A token that is
// bound to a key needs the scheme DPoP and a proof of the key (RFC 9449 section 7.1); every other
// scheme is refused (section 7.2). A token without a jkt is refused under the scheme DPoP.
func (s *server) checkKey(key access.Thumbprint, p *presentation) (access.Reason, error) {
	bound := key != access.Thumbprint{}
	switch {
	case bound && s.dpop == nil:
		return access.BindingNotAccepted, errors.New("the token is bound to a key (cnf.jkt), and no API has a binding that takes keys")
	case bound && p.Scheme != DPoP:
		return access.WrongScheme, &access.Mismatch{Name: "scheme for a token with cnf.jkt", Want: DPoP.String(), Got: p.Scheme.String()}
	case !bound && p.Scheme == DPoP:
		return access.WrongScheme, &access.Mismatch{Name: "scheme for a token without cnf.jkt", Want: Bearer.String(), Got: p.Scheme.String()}
	case p.Scheme == MTLSPoP && !s.mtlsPoP:
		return access.WrongScheme, &access.Mismatch{Name: "scheme for a token of " + s.name, Want: Bearer.String(), Got: p.Scheme.String()}
	case !bound:
		return access.Granted, nil
	}
	proved, err := p.Proof.check(s.dpop, p)
	switch {
	case errors.Is(err, dpop.ErrNonce):
		return access.DPoPNonceRequired, err
	case err != nil:
		return access.InvalidDPoPProof, err
	case !key.Matches(proved):
		return access.BoundToOtherKey, &access.Mismatch{Name: "cnf.jkt", Want: proved.String(), Got: key.String()}
	}
	return access.Granted, nil
}

// check returns the thumbprint of the key that signed the proof. The first call checks the proof;
// later calls return the same result.
func (p *Proof) check(c *dpop.Checker, by *presentation) (access.Thumbprint, error) {
	if !p.checked {
		p.checked = true
		p.request.Authority, p.request.Path, p.request.Token = p.Authority, p.Path, by.sum
		p.proof, p.err = c.Check(&p.request, by.now)
	}
	return p.proof.Key, p.err
}

// record remembers the proof of a token that passed all other checks, so that only clients with a
// valid token fill the memory. It returns [access.Granted] for a request without a proof. If owner is
// "", no route grants the request, so the proof is not recorded.
func (s *server) record(p *presentation, owner string) (access.Reason, error) {
	if p.Proof == nil || p.Proof.recorded || owner == "" {
		return access.Granted, nil
	}
	err := s.dpop.Record(p.Proof.proof, owner, p.now)
	switch {
	case err == nil:
		p.Proof.recorded = true
		return access.Granted, nil
	case errors.Is(err, dpop.ErrReplayed):
		return access.ReplayedDPoPProof, err
	case errors.Is(err, dpop.ErrInvalid):
		return access.InvalidDPoPProof, err
	case errors.Is(err, dpop.ErrShare):
		return access.RateLimited, err
	}
	return access.Overloaded, err
}

// Nonce returns the nonce for the client's next proofs (RFC 9449 section 8.2), or "" if c has no
// proof or the client needs no new nonce.
func (v *Validator) Nonce(c Credentials) string {
	if c.Proof == nil || v.dpop == nil {
		return ""
	}
	return v.dpop.Nonce(c.Proof.proof, v.now())
}

// Algorithms returns the algorithms of proofs that v accepts, for the parameter algs of a challenge
// (RFC 9449 section 7.1).
func (v *Validator) Algorithms() []string {
	var names []string
	if v.dpop != nil {
		for _, a := range v.dpop.Algorithms() {
			names = append(names, string(a))
		}
	}
	return names
}
