package config

import "time"

// DPoP says how proofs of possession are checked, RFC 9449, for APIs whose Binding takes tokens
// that are bound to a key.
type DPoP struct {
	Algorithms []Algorithm `yaml:"algorithms"` // accepted signature algorithms of proofs; default ES256, PS256, EdDSA
	// MaxAge is how long after its iat a proof is accepted, and Leeway how far iat may be ahead of
	// our clock.
	MaxAge time.Duration `yaml:"max_age"`
	Leeway time.Duration `yaml:"leeway"`
	Nonce  DPoPNonce     `yaml:"nonce"`
	// Proofs bounds the used proofs that the gate stores, at most half of them of one partner. At the
	// bound, further proofs are refused.
	Proofs int `yaml:"proofs"`
}

// DPoPNonce says whether a proof must have a nonce of the gate.
type DPoPNonce string

// The values of [DPoPNonce].
const (
	NonceOff      DPoPNonce = "off"
	NonceRequired DPoPNonce = "required" // RFC 9449 section 9
)

// UnmarshalText reads a choice about nonces.
func (n *DPoPNonce) UnmarshalText(text []byte) error { return oneOf(n, text, NonceOff, NonceRequired) }

// Binding says what an API's tokens must be bound to. Every token is bound: there is no value for
// bearer tokens.
type Binding string

// The values of [Binding]. A token that is bound to both a certificate and a key must match both,
// whatever the value.
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

// TakesKey reports whether b takes tokens that are bound to a key.
func (b Binding) TakesKey() bool { return b == BoundToKey || b == BoundToEither || b == BoundToBoth }

// TakesBearer reports whether b takes tokens that are bound to a certificate alone, which come under
// the scheme Bearer. The zero Binding does.
func (b Binding) TakesBearer() bool { return b != BoundToKey && b != BoundToBoth }

// TakesDPoP reports whether an API takes tokens that are bound to a key.
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
