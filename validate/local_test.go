package validate

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-AS-14: a key of our own issuer verifies its first token, and a key that has left the key set
// verifies none, also on a cache hit.
func TestLocalKeySetIsFollowed(t *testing.T) {
	old, next := testpki.NewSigner("ES256", "old"), testpki.NewSigner("ES256", "next")
	var version atomic.Uint64
	sets := [][]byte{nil, testpki.KeySet(old), testpki.KeySet(old, next), testpki.KeySet(next)}
	v := newValidator(t, Options{Local: map[config.Identifier]LocalIssuer{issuer: {KeySet: func() ([]byte, uint64) {
		n := version.Load()
		return sets[n], n
	}}}}, gatetest.AuthorizationServer())
	first, second := old.Token(bound()), next.Token(bound())
	steps := []struct{ first, second access.Reason }{
		{access.IssuerUnavailable, access.IssuerUnavailable}, // not opened yet
		{access.Granted, access.UnknownKey},
		{access.Granted, access.Granted},
		{access.UnknownKey, access.Granted},
	}
	for n, want := range steps {
		version.Store(uint64(n))
		expect(t, v, first, partner, want.first)
		expect(t, v, second, partner, want.second)
	}
}

// Many requests find a new key set at once: none is checked with the previous key set, and a slow
// reader does not replace a newer key set.
func TestLocalKeySetUnderLoad(t *testing.T) {
	signers := make([]*testpki.Signer, 40)
	sets, tokens := make([][]byte, len(signers)), make([]string, len(signers))
	for i := range signers {
		signers[i] = testpki.NewSigner("ES256", fmt.Sprint("k", i))
		sets[i], tokens[i] = testpki.KeySet(signers[i]), signers[i].Token(bound())
	}
	var version atomic.Uint64
	v := newValidator(t, Options{Local: map[config.Identifier]LocalIssuer{issuer: {KeySet: func() ([]byte, uint64) {
		n := version.Load()
		return sets[n], n
	}}}}, gatetest.AuthorizationServer())
	for n := range signers {
		version.Store(uint64(n))
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() { expect(t, v, tokens[n], partner, access.Granted) })
		}
		group.Wait()
	}
}

// The error of New names every server that stops the start.
func TestNewRefuses(t *testing.T) {
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(testpki.NewSigner("ES256", "k1")))
	missing := func(s *config.AuthorizationServer) { s.KeySet.File = "missing.json" }
	named := func(name, issuer string) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) {
			s.Name, s.Issuer = config.Name(name), config.Identifier(issuer)
		}
	}
	opaque := func(s *config.AuthorizationServer) { s.Tokens = config.OpaqueOnly }
	also := func(s *config.AuthorizationServer) { s.AlsoIntrospect = true }
	untrusted := func(s *config.AuthorizationServer) {
		s.Connection.Trust, s.KeySet.File = []config.Path{"missing.pem"}, ""
	}
	for name, c := range map[string]struct {
		servers []config.AuthorizationServer
		names   []string
	}{
		"one issuer twice": {[]config.AuthorizationServer{gatetest.AuthorizationServer(fromFile), gatetest.AuthorizationServer(fromFile, named("again", issuer))}, []string{"again", issuer}},
		"two broken":       {[]config.AuthorizationServer{gatetest.AuthorizationServer(missing), gatetest.AuthorizationServer(missing, named("second", "https://second.example"))}, []string{"partners", "second"}},
		"opaque, unasked":  {[]config.AuthorizationServer{gatetest.AuthorizationServer(opaque)}, []string{"partners"}},
		"also, unasked":    {[]config.AuthorizationServer{gatetest.AuthorizationServer(fromFile, also)}, []string{"partners"}},
		"anchors":          {[]config.AuthorizationServer{gatetest.AuthorizationServer(untrusted)}, []string{"missing.pem"}},
	} {
		_, err := New(c.servers, Options{Lease: new(reuse.Pool).Lease()})
		for _, part := range c.names {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %v, want an error that names %q", name, err, part)
			}
		}
	}
}
