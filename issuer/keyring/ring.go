// Package keyring has the issuer's signing keys: the active key, the next key, and the retired keys
// whose tokens may still be valid. It publishes the public part of each key.
package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/store"
)

// A Store keeps the signing keys. ReplaceKeys replaces the keys only if the stored keys are previous,
// and otherwise returns [store.ErrChanged].
type Store interface {
	Keys() ([]store.Key, error)
	ReplaceKeys(previous, keys []store.Key) error
}

// Options configures a [Ring]. Every field except Inspect and Shared must be set.
type Options struct {
	Store   Store // keeps the keys, unless Signing names files
	Signing config.Signing
	// TokenLifetime is the longest lifetime of a token. A retired key stays published for
	// TokenLifetime plus clockMargin.
	TokenLifetime time.Duration
	// Inspect says that the stored keys are only read: no key is generated or rotated. With Inspect,
	// Run must not be called.
	Inspect bool
	// Shared says that other processes use the store too. The ring then reads the store every
	// refreshInterval, and rotates only if no other process has rotated.
	Shared   bool
	Reloaded prometheus.Gauge // 1 if the last refresh succeeded, and 0 otherwise
	Log      *slog.Logger
	Now      func() time.Time
}

// A Ring signs tokens with the active key. It is safe for concurrent use.
type Ring struct {
	options Options
	health  health

	current   atomic.Pointer[snapshot]
	mu        sync.Mutex // serialises changes of the keys
	filesHash [32]byte
	stored    []store.Key  // the keys in the store as this ring read or wrote them last
	readAt    atomic.Int64 // when the last reading of a shared store began: nanoseconds after opened
	opened    time.Time
}

// A snapshot is an immutable set of keys.
type snapshot struct {
	keys    []*key // in the order of creation
	active  *key
	byID    map[string]*key
	set     []byte // JWK Set, RFC 7517 section 5
	version uint64
}

// Open returns the ring for o, with the keys from the files or from the store. If the store is new,
// Open generates the first keys.
func Open(o Options) (*Ring, error) {
	r := &Ring{options: o, health: health{log: o.Log, gauge: o.Reloaded}, opened: time.Now()}
	r.health.report(nil)
	if len(o.Signing.Files) > 0 {
		return r, r.openFiles()
	}
	return r, r.openStore()
}

// publish replaces the published keys with keys. From now on active signs.
func (r *Ring) publish(keys []*key, active *key) error {
	next := &snapshot{keys: keys, active: active, byID: make(map[string]*key, len(keys)), version: 1}
	if previous := r.current.Load(); previous != nil {
		next.version = previous.version + 1
	}
	jwks := make([]map[string]string, 0, len(keys))
	for _, k := range keys {
		next.byID[k.id] = k
		jwks = append(jwks, k.jwk)
	}
	var err error
	if next.set, err = json.Marshal(map[string]any{"keys": jwks}); err != nil {
		return fmt.Errorf("encoding the key set: %w", err)
	}
	r.current.Store(next)
	return nil
}

// Set returns the JWK Set with the public part of every key, and a version that changes when the set
// changes. The caller must not change the set.
func (r *Ring) Set() (set []byte, version uint64) {
	s := r.current.Load()
	return s.set, s.version
}

// Sign returns claims as a JWT of type typ (RFC 7519 section 5.1), signed by the active key.
func (r *Ring) Sign(typ string, claims jwt.Claims) (string, error) {
	k := r.current.Load().active
	token := jwt.NewWithClaims(k.method, claims)
	token.Header["typ"], token.Header["kid"] = typ, k.id
	signed, err := token.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return signed, nil
}

var errUnknownKey = errors.New("the token is not signed by a published key")

// Parse parses raw into claims and validates the claims with options. raw must be a JWT of type typ
// that a published key has signed with the algorithm of this key.
func (r *Ring) Parse(raw, typ string, claims jwt.Claims, options ...jwt.ParserOption) error {
	keys := r.current.Load().byID
	find := func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		k := keys[id]
		if k == nil || token.Header["typ"] != typ || token.Method.Alg() != k.method.Alg() {
			return nil, errUnknownKey
		}
		return k.private.Public(), nil
	}
	methods := []string{"ES256", "PS256", "RS256", "EdDSA"}
	options = append(options, jwt.WithValidMethods(methods), jwt.WithStrictDecoding(), jwt.WithExpirationRequired())
	_, err := jwt.ParseWithClaims(raw, claims, find, options...)
	return err
}

// Status describes a published key.
type Status struct {
	ID        string    `json:"kid"`
	Algorithm string    `json:"alg"`
	State     string    `json:"state"`          // "next", "active" or "old"
	Since     time.Time `json:"since,omitzero"` // when the state began
	Until     time.Time `json:"until,omitzero"` // when the key is planned to stop signing (active), or to be no longer published (old)
}

// Keys returns the status of every published key.
func (r *Ring) Keys() []Status {
	s := r.current.Load()
	out := make([]Status, 0, len(s.keys))
	for _, k := range s.keys {
		status := Status{ID: k.id, Algorithm: k.method.Alg(), State: "next", Since: k.created}
		switch {
		case k == s.active:
			status.State, status.Since = "active", k.activated
			if r.options.Store != nil && len(r.options.Signing.Files) == 0 {
				status.Until = k.activated.Add(r.options.Signing.Rotate)
			}
		case !k.retired.IsZero():
			status.State, status.Since, status.Until = "old", k.retired, r.expiry(k)
		}
		out = append(out, status)
	}
	return out
}
