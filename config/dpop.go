package config

import "time"

// DPoP says how the gate checks proofs of possession, RFC 9449. The gate needs proofs for APIs whose
// Binding accepts tokens that are bound to a key.
type DPoP struct {
	Algorithms []Algorithm `yaml:"algorithms" schema:"nonempty"` // accepted signature algorithms of proofs; default ES256, PS256, EdDSA
	// A proof is accepted until MaxAge after its iat. Its iat may be up to Leeway ahead of the gate's
	// clock.
	MaxAge time.Duration `yaml:"max_age"`
	Leeway time.Duration `yaml:"leeway"`
	Nonce  DPoPNonce     `yaml:"nonce"`
	// Proofs bounds the used proofs that the gate stores. One partner may have at most half of them.
	// At the bound, further proofs are refused.
	Proofs int `yaml:"proofs" schema:"minimum=1"`
}

// DPoPNonce says whether a proof must have a nonce of the gate.
type DPoPNonce string

// The values of [DPoPNonce].
const (
	NonceOff      DPoPNonce = "off"
	NonceRequired DPoPNonce = "required" // RFC 9449 section 9
)

// UnmarshalText reads whether a proof needs a nonce.
func (n *DPoPNonce) UnmarshalText(text []byte) error { return oneOf(n, text, NonceOff, NonceRequired) }

// Binding says what an API's tokens must be bound to. No value allows bearer tokens, because every
// token must be bound.
type Binding string

// The values of [Binding]. With every value, a token that is bound to both a certificate and a key
// must match both.
const (
	BoundToCertificate Binding = "certificate" // RFC 8705 section 3; a token with a jkt is refused
	BoundToKey         Binding = "dpop"        // RFC 9449
	BoundToEither      Binding = "either"
	BoundToBoth        Binding = "both"
)

// UnmarshalText reads a binding.
func (b *Binding) UnmarshalText(text []byte) error {
	return oneOf(b, text, BoundToCertificate, BoundToKey, BoundToEither, BoundToBoth)
}

// TakesKey reports whether an API with b accepts tokens that are bound to a key.
func (b Binding) TakesKey() bool { return b == BoundToKey || b == BoundToEither || b == BoundToBoth }

// TakesBearer reports whether an API with b accepts tokens that are bound only to a certificate,
// which clients send under the scheme Bearer. For the zero Binding it returns true.
func (b Binding) TakesBearer() bool { return b != BoundToKey && b != BoundToBoth }

// TakesDPoP reports whether at least one API accepts tokens that are bound to a key.
func (c *Config) TakesDPoP() bool {
	for i := range c.APIs {
		if c.APIs[i].Binding.TakesKey() {
			return true
		}
	}
	return false
}

const (
	mostProofAge    = 5 * time.Minute
	mostProofLeeway = time.Minute
)

// dpop checks the settings of proofs.
func (k *checker) dpop() {
	d := &k.config.DPoP
	if len(d.Algorithms) == 0 {
		k.fault("dpop.algorithms", "at least one is required: an empty list accepts no proof")
	}
	distinct(k, "dpop.algorithms", d.Algorithms)
	k.inRange("dpop.max_age", d.MaxAge, time.Second, mostProofAge)
	k.inRange("dpop.leeway", d.Leeway, 0, mostProofLeeway)
	k.require("dpop.nonce", d.Nonce != "")
	k.positive("dpop.proofs", int64(d.Proofs))
}
