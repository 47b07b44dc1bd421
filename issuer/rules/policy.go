// Package rules applies the operator's rules to token requests. A [Policy] takes an [Input] and
// returns an [Outcome] or a [*Refusal]. Rules are CEL expressions, which are compiled and
// type-checked when the configuration is loaded. They have no side effects and no I/O, and the cost
// of each evaluation is bounded.
package rules

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A Level is the kind of a rule. Rules are applied in the order of their levels.
type Level uint8

// The levels.
const (
	Workspace   Level = iota + 1 // rules for every request
	Application                  // rules for requests of one application
	Scope                        // rules for one scope that would be granted
	Claims                       // rules that add a claim to the token
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

// Input is a token request, and the grant that it would get without rules.
type Input struct {
	ClientID       string
	Partner        string
	Authentication string            // the client's authentication method, RFC 8705 section 2
	Certificate    *x509.Certificate // the leaf; if nil, a rule that reads it refuses the request
	Thumbprint     string            // the thumbprint of Certificate, base64url
	Scopes         []string          // requested scopes
	Resources      []string          // the requested audience of the token
	Address        netip.Addr        // source address
	Time           time.Time

	Granted  []string // the scopes that would be granted without rules
	Lifetime time.Duration
	Bound    bool
}

// An Outcome is the grant after all rules: at most the grant in Input, and additional claims.
type Outcome struct {
	Scopes   []string // empty if the rules dropped all scopes
	Lifetime time.Duration
	Claims   map[string]any // strings, numbers, booleans, and lists and maps of them
}

// A Refusal is the error for a request that a rule refuses, or for which a rule cannot be evaluated.
type Refusal struct {
	Level  Level
	Rule   string // the rule's configured name
	Reason string // the configured reason, for the log; "" if Err is set
	Err    error
}

// Error returns the name of the rule that refused the request, and why it refused.
func (r *Refusal) Error() string {
	if r.Err != nil {
		return fmt.Sprintf("%s rule %s could not be evaluated: %v", r.Level, r.Rule, r.Err)
	}
	return fmt.Sprintf("%s rule %s: %s", r.Level, r.Rule, r.Reason)
}

// Unwrap returns why the rule could not be evaluated.
func (r *Refusal) Unwrap() error { return r.Err }

// A Policy is a compiled list of rules in the order of their application. It is safe for concurrent
// use. A Policy without rules grants everything in the Input.
type Policy struct {
	rules []*rule
}

// A Trace records the verdict of every rule, for explain.
type Trace struct {
	Saw   map[string]any `json:"saw"` // the variables before the first rule is applied
	Steps []Step         `json:"rules"`
}

// A Step is the verdict of one rule.
type Step struct {
	Level    string `json:"level"`
	Rule     string `json:"rule"`
	Position string `json:"position,omitempty"` // the rule's position in the configuration
	Verdict  string `json:"verdict"`            // the rule's effect, or why the rule had no effect
}

// Decide applies the rules to in, level by level. Each rule sees the grant that the previous rules
// have left. The error is a [*Refusal]; if a rule cannot be evaluated, the request is refused. If
// trace is not nil, Decide records the verdict of every rule in it.
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

// apply evaluates r and applies the effect of r to out. It returns the verdict for a Trace.
func (r *rule) apply(in *Input, values *values, out *Outcome) (verdict string, err error) {
	switch {
	case r.level == Application && r.clientID != in.ClientID:
		return "does not apply: another application", nil
	case r.level == Scope && !slices.Contains(out.Scopes, r.scope):
		return "does not apply: the scope is not granted", nil
	}
	values.setGrant(r.scope, out, in)
	if r.when != nil {
		applies, err := r.when.evalBool(values)
		switch {
		case err != nil:
			return "", &Refusal{Level: r.level, Rule: r.name, Err: err}
		case !applies:
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
	return fmt.Sprintf("limited the lifetime to %s", out.Lifetime), nil
}
