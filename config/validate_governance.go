package config

import (
	"maps"
	"slices"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// known is what rules may refer to.
type known struct {
	rules   map[Name]string // names of the rules so far
	clients map[ClientID]bool
	scopes  map[Scope]bool
	whole   bool // no application is missing
}

func (k *checker) governance(g *Governance) {
	known := k.knownToRules()
	const path = "issuer.governance"
	for i, r := range g.Workspace {
		at := strictyaml.Index(path+".workspace", i)
		k.rule(at, r.Name, r.When, known)
		k.effect(at, r.Lifetime, []string{"refuse", "lifetime"}, r.Refuse != "", r.Lifetime != 0)
	}
	for i, r := range g.Application {
		at := strictyaml.Index(path+".application", i)
		k.rule(at, r.Name, r.When, known)
		k.effect(at, r.Lifetime, []string{"refuse", "lifetime"}, r.Refuse != "", r.Lifetime != 0)
		k.require(at+".client_id", r.ClientID != "")
		if r.ClientID != "" && !known.clients[r.ClientID] && known.whole {
			k.fault(at+".client_id", "there is no application %s%s", strictyaml.Quote(string(r.ClientID)), nearest(r.ClientID, known.clients))
		}
	}
	for i, r := range g.Scope {
		at := strictyaml.Index(path+".scope", i)
		k.rule(at, r.Name, r.When, known)
		k.effect(at, r.Lifetime, []string{"refuse", "drop", "lifetime"}, r.Refuse != "", r.Drop, r.Lifetime != 0)
		k.require(at+".scope", r.Scope != "")
		if r.Scope != "" && !known.scopes[r.Scope] && known.whole {
			k.fault(at+".scope", "no application has the scope %s%s", strictyaml.Quote(string(r.Scope)), nearest(r.Scope, known.scopes))
		}
	}
	for i, r := range g.Claims {
		at := strictyaml.Index(path+".claims", i)
		k.rule(at, r.Name, "true", known) // when is optional here
		k.claim(at+".claim", r.Claim)
		k.require(at+".value", r.Value != "")
	}
}

// rule checks what every rule has.
func (k *checker) rule(path string, name Name, when string, known *known) {
	k.require(path+".name", name != "")
	unique(k, known.rules, path+".name", "the name", name)
	k.require(path+".when", when != "")
}

// effect checks that the rule at path does exactly one thing of choices; set tells, for
// each, whether it does. A lifetime is bounded like every other.
func (k *checker) effect(path string, lifetime time.Duration, choices []string, set ...bool) {
	var chosen []string
	for i, s := range set {
		if s {
			chosen = append(chosen, choices[i])
		}
	}
	switch {
	case len(chosen) == 0 && k.decodedFully(path):
		k.fault(path, "does nothing: %s is required", orList(choices))
	case len(chosen) > 1:
		k.fault(path, "%s exclude each other", andList(chosen))
	}
	if lifetime != 0 {
		k.inRange(path+".lifetime", lifetime, time.Second, k.longestToken())
	}
}

// knownToRules collects the applications and their scopes.
func (k *checker) knownToRules() *known {
	out := &known{map[Name]string{}, map[ClientID]bool{}, map[Scope]bool{}, k.decodedFully("partners")}
	for _, p := range k.config.Partners.List {
		for _, a := range p.Applications {
			out.clients[a.ClientID] = true
			for _, s := range a.Scopes {
				out.scopes[s] = true
			}
		}
	}
	return out
}

// nearest returns the end of a message about the unknown word.
func nearest[T ~string](word T, known map[T]bool) string {
	if len(known) > strictyaml.MaxCandidates {
		return ""
	}
	return strictyaml.DidYouMean(string(word), texts(slices.Sorted(maps.Keys(known))))
}
