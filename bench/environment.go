package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tallygate/tallygate/bench/load"
	"github.com/tallygate/tallygate/internal/testpki"
)

// Names in the configurations of all peers.
const (
	serverName = "api.example.test"
	issuer     = "https://as.example.test"
	audience   = "https://api.example.test"
	partners   = 64
)

// An environment has what all peers share: a folder with certificates and keys, the partners, and the
// authorization server.
type environment struct {
	dir       string
	tallygate string // the binary
	Upstream  string // host:port
	AS        string // URL of the authorization server
	server    *http.Server

	root     []byte // PEM, the anchor of the certificate that all peers present
	ca       *testpki.Pair
	partners []partner
	own      []partner                  // the same partners with certificates of their own authorities
	stranger *testpki.Pair              // issued by an authority that no peer trusts
	signers  map[string]*testpki.Signer // the signers of tokens, by algorithm

	mutex  sync.Mutex
	opaque map[string]testpki.M // answers of introspection, by token
}

// A partner has one certificate and any number of applications.
type partner struct {
	name string
	pair *testpki.Pair
}

// application returns the client_id of a partner's n-th application.
func (p partner) application(n int) string { return fmt.Sprintf("%s-app-%d", p.name, n) }

// dns returns the name in the partner's certificate.
func (p partner) dns() string { return p.name + ".example.test" }

// newEnvironment creates an environment in dir. upstream is the address of the API, and tallygate the path of its binary.
func newEnvironment(dir, upstream, tallygate string) (*environment, error) {
	env := &environment{dir: dir, Upstream: upstream, tallygate: tallygate, ca: testpki.NewCA("Partners"), opaque: map[string]testpki.M{}}
	env.ca.Write(dir, "ca")
	servers := testpki.NewCA("Servers")
	env.root = servers.CertPEM()
	server := servers.Leaf("gate", testpki.DNS(serverName))
	server.Write(dir, "server")
	if err := env.put("server-both.pem", append(server.CertPEM(), server.KeyPEM()...)); err != nil {
		return nil, err
	}
	env.stranger = testpki.NewCA("Strangers").Leaf("partner-0", testpki.DNS("partner-0.example.test"))
	for i := range partners {
		p := partner{name: fmt.Sprintf("partner-%d", i)}
		p.pair = env.ca.Leaf(p.name, testpki.DNS(p.dns()))
		env.partners = append(env.partners, p)
		own := testpki.NewCA(p.name)
		own.Write(dir, p.name+"-ca")
		env.own = append(env.own, partner{name: p.name, pair: own.Leaf(p.name)})
	}
	env.signers = map[string]*testpki.Signer{}
	var all []*testpki.Signer
	for _, algorithm := range []string{"ES256", "RS256"} {
		s := testpki.NewSigner(algorithm, "key-"+algorithm)
		der, err := x509.MarshalPKIXPublicKey(s.Key.Public())
		if err != nil {
			return nil, err
		}
		if err := env.put("public-"+algorithm+".pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); err != nil {
			return nil, err
		}
		env.signers[algorithm] = s
		all = append(all, s)
	}
	keys := testpki.KeySet(all...)
	if err := env.put("keys.json", keys); err != nil {
		return nil, err
	}
	return env, env.serve(keys)
}

// path returns the path of a file of the environment.
func (env *environment) path(name string) string { return filepath.Join(env.dir, name) }

func (env *environment) put(name string, content []byte) error {
	return os.WriteFile(env.path(name), content, 0o644) // peers' workers may run as another user
}

// serve runs the authorization server, which serves its key set to peers that fetch it and answers
// introspection of opaque tokens.
func (env *environment) serve(keys []byte) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		if in.URL.Path == "/keys" {
			_, _ = out.Write(keys)
			return
		}
		env.mutex.Lock()
		claims, ok := env.opaque[in.PostFormValue("token")]
		env.mutex.Unlock()
		if !ok {
			claims = testpki.M{"active": false}
		}
		_ = json.NewEncoder(out).Encode(claims)
	})}
	env.AS = "http://" + listener.Addr().String()
	go func() { _ = env.server.Serve(listener) }()
	return nil
}

func (env *environment) close() { _ = env.server.Close() }

// token returns a token for an application of p, bound to p's certificate.
func (env *environment) token(algorithm string, p partner, application int, edits ...testpki.M) string {
	return env.signers[algorithm].Token(testpki.Bound(issuer, audience, p.application(application), p.pair, edits...))
}

// opaqueToken returns an opaque token for the first application of p, and stores the answer of its
// introspection.
func (env *environment) opaqueToken(p partner) string {
	claims := testpki.Bound(issuer, audience, p.application(0), p.pair)
	claims["active"] = true
	token := rand.Text()
	env.mutex.Lock()
	defer env.mutex.Unlock()
	env.opaque[token] = claims
	return token
}

// client returns p with its certificate and key, without tokens.
func (p partner) client() load.Client {
	return load.Client{Certificate: p.pair.CertPEM(), Key: p.pair.KeyPEM()}
}

// clients returns all partners, each with this number of tokens from mint.
func (env *environment) clients(tokens int, mint func(partner) string) []load.Client {
	var clients []load.Client
	for _, p := range env.partners {
		c := p.client()
		for range tokens {
			c.Tokens = append(c.Tokens, mint(p))
		}
		clients = append(clients, c)
	}
	return clients
}

// of returns the partners of a variant. When partners have several applications, the certificate of a
// partner does not identify the application, so the partner's own authority issues it.
func (env *environment) of(v variant) []partner {
	if v.applications > 0 {
		return env.own
	}
	return env.partners
}

// mint returns the function that makes the variant's tokens for the first application of a partner.
func (env *environment) mint(v variant) func(partner) string {
	return func(p partner) string {
		if v.opaque {
			return env.opaqueToken(p)
		}
		return env.token(v.algorithm, p, 0)
	}
}
