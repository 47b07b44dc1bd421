// Package serverconfig proposes the configuration of an authorization server from its metadata,
// its key set and a sample of its access tokens.
package serverconfig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/product"
)

// Options name the authorization server and hold a sample of its tokens.
type Options struct {
	URL     string        // issuer identifier or metadata URL
	CA      string        // PEM file with the authorities of the server's certificate; "": the system's authorities
	Token   string        // a sample access token; "": no sample
	Timeout time.Duration // bounds all requests together
}

// A Proposal is the result of [Propose].
type Proposal struct {
	Block   string // the section authorization_servers, YAML
	Found   []string
	Missing []string // faults, each of which makes the gate refuse the sample token or all tokens
}

func (p *Proposal) found(format string, args ...any) {
	p.Found = append(p.Found, fmt.Sprintf(format, args...))
}

func (p *Proposal) missing(format string, args ...any) {
	p.Missing = append(p.Missing, fmt.Sprintf(format, args...))
}

// Propose fetches the metadata and the key set of the server. It sends the token to no server. From the
// token, the result quotes only names that the configuration needs. Propose returns a [*UsageError] for
// invalid options.
func Propose(ctx context.Context, options Options) (*Proposal, error) {
	if options.Timeout <= 0 {
		return nil, &UsageError{errors.New("--timeout: must be positive")}
	}
	ctx, cancel := context.WithTimeout(ctx, options.Timeout)
	defer cancel()
	f, err := newFetcher(options.CA)
	if err != nil {
		return nil, err
	}
	defer f.lease.Release()
	m, err := f.metadata(ctx, options.URL)
	if err != nil {
		return nil, err
	}
	p := &Proposal{}
	p.announced(m)
	b := &block{issuer: m.Issuer, ca: options.CA}
	t, err := readToken(options.Token, m.Issuer)
	if err != nil {
		return nil, err
	}
	chosen := product.Guess(m.Issuer, t.marks)
	b.settings = cmp.Or(chosen.Profile, config.ProfileRFC9068).Defaults()
	b.settings.Issuer = config.Identifier(m.Issuer)
	if t.opaque {
		p.opaque(b, m)
	} else if err := p.judge(ctx, f, b, m, t, chosen); err != nil {
		return nil, err
	}
	p.Block = b.text()
	if _, err := config.Parse("proposal", "", []byte(p.Block+otherSections)); err != nil {
		return nil, fmt.Errorf("no valid configuration for this server: %w", err)
	}
	return p, nil
}

// otherSections are the sections that a block needs to be a valid configuration, so that validation
// finds faults in the block alone.
const otherSections = `
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: gate.pem, key: gate-key.pem}}}
apis: [{name: api, hosts: [api.example.com], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /}]}]
partners: {list: [{name: partner, trust: [partner-ca.pem], applications: [{client_id: application, apis: [api]}]}]}
`

// announced reports what the metadata announces about the binding of tokens.
func (p *Proposal) announced(m *metadata) {
	p.found("issuer %q", m.Issuer)
	if string(m.Bound) == "true" {
		p.found("the metadata announces certificate-bound access tokens (RFC 8705 section 3.3)")
	} else {
		p.found("the metadata does not announce certificate-bound access tokens (tls_client_certificate_bound_access_tokens); a server may bind without it")
	}
	if m.Aliases.Kind() == '{' {
		p.found("the metadata has mtls_endpoint_aliases: clients authenticate there (RFC 8705 section 5)")
	} else {
		p.found("the metadata has no mtls_endpoint_aliases: clients present their certificate at the endpoints themselves (RFC 8705 section 5)")
	}
	if m.DPoP.Kind() == '[' {
		p.found("the metadata announces DPoP (RFC 9449 section 5.1)")
	}
}

// opaque completes the block for opaque tokens, which the gate must introspect.
func (p *Proposal) opaque(b *block, m *metadata) {
	p.found("the token is no JWT: the gate must introspect it")
	b.opaque = true
	if endpoint(m.Introspection) == nil {
		p.missing("the metadata has no introspection_endpoint: set introspection.endpoint, or configure the server to issue JWTs")
		b.endpointUnknown = true
	}
}

// judge completes the block for JWTs by the key set and the sample token.
func (p *Proposal) judge(ctx context.Context, f *fetcher, b *block, m *metadata, t *sample, chosen product.Product) error {
	u := endpoint(m.KeySet)
	if u == nil {
		return errors.New("the metadata names no jwks_uri that is an https URL")
	}
	document, err := f.get(ctx, u, authserver.MaxKeySet)
	if err != nil {
		return fmt.Errorf("fetching key set: %w", err)
	}
	set, err := jwks.Read(document, config.Algorithms(), b.settings.Tenant())
	if err != nil {
		p.missing("keys: %v", err)
	} else {
		p.keys(set)
	}
	if t.jws == nil {
		b.note("audiences", "replace by aud of the tokens; with --token, this command finds it")
		b.settings.Audiences = []string{"https://api.example.com"}
		b.acceptKeys(set)
		p.found("without --token, claims and binding are not checked")
		return nil
	}
	b.settings.Audiences = []string{"https://api.example.com"} // replaced when the token's audience is known
	p.fit(b, t)
	p.read(b, t, chosen)
	if set == nil {
		return nil
	}
	if err := set.Verify(t.jws); err != nil {
		p.missing("signature: %v", err)
	} else {
		p.found("the signature is valid")
	}
	return nil
}

// keys lists the usable keys of set, and the keys that are left out, with the reasons.
func (p *Proposal) keys(set *jwks.Set) {
	const most = 10
	usable := set.Usable()
	p.found("usable keys: %s", strings.Join(usable[:min(len(usable), most)], "; "))
	for _, reason := range set.Unusable()[:min(len(set.Unusable()), most)] {
		p.found("key left out: %s", reason)
	}
}

// acceptKeys sets the accepted algorithms to the algorithms of set, if the profile accepts no key of
// set.
func (b *block) acceptKeys(set *jwks.Set) {
	if set == nil {
		return
	}
	all := set.Algorithms()
	if slices.ContainsFunc(all, func(a config.Algorithm) bool { return slices.Contains(b.settings.Algorithms, a) }) {
		return
	}
	b.settings.Algorithms = all
	b.note("algorithms", "those of the published keys")
}

// isURL reports whether s is an https URL, the usual form of an audience.
func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != ""
}
