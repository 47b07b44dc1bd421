// Package rules decides by the operator's rules what a token request gets: an
// [Input] goes in, an [Outcome] or a [*Refusal] comes out. Rules are CEL expressions,
// compiled and type-checked when the configuration is loaded. They have no side effects
// and no way out of the process, and each evaluation is bounded.
package rules

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A Level is where a rule stands. Levels are gone through in this order.
type Level uint8

// The levels.
const (
	Workspace   Level = iota + 1 // every request
	Application                  // those of one application
	Scope                        // each that would be granted one scope
	Claims                       // what is added to the token
)

// String returns the level's name in the configuration.
func (l Level) String() string {
	switch l {
	case Workspace:
		return "workspace"
	case Application:
		return "application"
	case Scope:
		return "scope"
	case Claims:
		return "claims"
	}
	return "unknown"
}

// Input is a request as the rules see it, and what would be granted without them.
type Input struct {
	ClientID       string
	Partner        string
	Authentication string            // the method, RFC 8705 section 2
	Certificate    *x509.Certificate // the leaf; nil for none: rules that look at it refuse
	Thumbprint     string            // of Certificate, base64url
	Scopes         []string          // asked for
	Resources      []string          // that the token is to be for
	Address        netip.Addr        // where the request came from
	Time           time.Time

	Granted  []string // scopes
	Lifetime time.Duration
	Bound    bool
}

// An Outcome is what is granted. Nothing in it is more than Input had, but for claims.
type Outcome struct {
	Scopes   []string // empty when the rules dropped every one
	Lifetime time.Duration
	Claims   map[string]any // strings, numbers, truth values, and lists and maps of them
}

// A Refusal is the error of a request that a rule refused, or could not be evaluated for.
type Refusal struct {
	Level  Level
	Rule   string // its configured name
	Reason string // as configured, for the log; "" when Err says why
	Err    error
}

// Error says which rule refused, and why.
func (r *Refusal) Error() string {
	if r.Err != nil {
		return fmt.Sprintf("%s rule %s could not be evaluated: %v", r.Level, r.Rule, r.Err)
	}
	return fmt.Sprintf("%s rule %s: %s", r.Level, r.Rule, r.Reason)
}

// Unwrap returns why the rule could not be evaluated.
func (r *Refusal) Unwrap() error { return r.Err }

// A Policy is the compiled rules, in the order in which they are applied. It is safe
// for concurrent use. One without rules grants what it is given.
type Policy struct {
	rules []*rule
}

// A Trace takes what became of every rule, for a person to read.
type Trace struct {
	Saw   map[string]any `json:"saw"` // what the rules saw at the beginning
	Steps []Step         `json:"rules"`
}

// A Step is one rule's verdict.
type Step struct {
	Level    string `json:"level"`
	Rule     string `json:"rule"`
	Position string `json:"position,omitempty"` // in the configuration
	Verdict  string `json:"verdict"`            // what it did, or why nothing
}

// Decide applies the rules to in, level by level. A rule sees what those before it have
// left of the grant. The error is a [*Refusal]; a rule that cannot be evaluated refuses.
// A trace, if it is not nil, gets every rule's verdict.
func (p *Policy) Decide(in Input, trace *Trace) (Outcome, error) {
	out := Outcome{Scopes: in.Granted, Lifetime: in.Lifetime}
	if len(p.rules) == 0 && trace == nil {
		return out, nil
	}
	values := newValues(&in)
	if trace != nil {
		trace.Saw = values.trace()
	}
	for n, r := range p.rules {
		verdict, err := r.apply(&in, values, &out)
		trace.add(r, verdict, err)
		if err != nil {
			for _, rest := range p.rules[n+1:] {
				trace.add(rest, "not reached", nil)
			}
			return Outcome{}, err
		}
	}
	return out, nil
}

func (t *Trace) add(r *rule, verdict string, err error) {
	if t == nil {
		return
	}
	if err != nil {
		verdict = "refused: " + err.Error()
	}
	t.Steps = append(t.Steps, Step{r.level.String(), r.name, r.position, verdict})
}

// apply evaluates r and changes out by its effect. The verdict is for a trace.
func (r *rule) apply(in *Input, values *values, out *Outcome) (verdict string, err error) {
	switch {
	case r.level == Application && r.clientID != in.ClientID:
		return "does not apply: another application", nil
	case r.level == Scope && !slices.Contains(out.Scopes, r.scope):
		return "does not apply: the scope is not granted", nil
	}
	values.setGrant(r.scope, out, in)
	if r.when != nil {
		yes, err := r.when.evalBool(values)
		switch {
		case err != nil:
			return "", &Refusal{Level: r.level, Rule: r.name, Err: err}
		case !yes:
			return "does not apply: when is false", nil
		}
	}
	switch {
	case r.refuse != "":
		return "", &Refusal{Level: r.level, Rule: r.name, Reason: r.refuse}
	case r.drop:
		out.Scopes = slices.DeleteFunc(slices.Clone(out.Scopes), func(s string) bool { return s == r.scope })
		return "dropped the scope " + r.scope, nil
	case r.value != nil:
		v, err := r.value.evalClaim(values)
		if err != nil {
			return "", &Refusal{Level: r.level, Rule: r.name, Err: err}
		}
		out.Claims = maps.Clone(out.Claims)
		if out.Claims == nil {
			out.Claims = make(map[string]any)
		}
		out.Claims[r.claim] = v
		return fmt.Sprintf("added the claim %s: %v", r.claim, v), nil
	}
	out.Lifetime = min(out.Lifetime, r.lifetime)
	return fmt.Sprintf("the token lives no longer than %s", out.Lifetime), nil
}
