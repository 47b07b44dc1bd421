package rules

import (
	"fmt"
	"strconv"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/tallygate/tallygate/config"
)

// A rule is a compiled entry of the configuration. It has one effect: it refuses, drops a scope,
// bounds the lifetime, or adds a claim with a value.
type rule struct {
	level    Level
	name     string
	position string
	clientID string      // only in application rules
	scope    string      // only in scope rules
	when     *expression // nil means always

	refuse   string
	drop     bool
	lifetime time.Duration
	claim    string
	value    *expression
}

// Compile compiles the rules of cfg. All other settings of cfg must have been validated. The error is
// a [config.Faults] with a fault for every expression that does not compile.
func Compile(cfg *config.Config) (*Policy, error) {
	p := &Policy{}
	if cfg.Issuer == nil {
		return p, nil
	}
	c := &compiler{config: cfg, environments: make(map[Level]*cel.Env)}
	g := cfg.Issuer.Governance
	for i, r := range g.Workspace {
		p.rules = append(p.rules, c.rule("workspace", i, rule{
			level: Workspace, name: string(r.Name), refuse: r.Refuse, lifetime: r.Lifetime,
		}, r.When, ""))
	}
	for i, r := range g.Application {
		p.rules = append(p.rules, c.rule("application", i, rule{
			level: Application, name: string(r.Name), clientID: string(r.ClientID), refuse: r.Refuse, lifetime: r.Lifetime,
		}, r.When, ""))
	}
	for i, r := range g.Scope {
		p.rules = append(p.rules, c.rule("scope", i, rule{
			level: Scope, name: string(r.Name), scope: string(r.Scope), refuse: r.Refuse, drop: r.Drop, lifetime: r.Lifetime,
		}, r.When, ""))
	}
	for i, r := range g.Claims {
		p.rules = append(p.rules, c.rule("claims", i, rule{
			level: Claims, name: string(r.Name), claim: r.Claim,
		}, r.When, r.Value))
	}
	if c.broken != nil {
		return nil, c.broken
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	return p, nil
}

// A compiler collects the errors of all expressions.
type compiler struct {
	config       *config.Config
	environments map[Level]*cel.Env
	faults       config.Faults
	broken       error
}

// rule adds the compiled expressions when and value to r, which is entry i of list.
func (c *compiler) rule(list string, i int, r rule, when, value string) *rule {
	path := "issuer.governance." + list + "[" + strconv.Itoa(i) + "]"
	if at := c.config.Position(path); at.Line > 0 {
		r.position = at.String()
	}
	if when != "" {
		r.when = c.expression(path+".when", r.level, when, cel.BoolType)
	}
	if r.level == Claims {
		r.value = c.expression(path+".value", r.level, value,
			cel.StringType, cel.BoolType, cel.IntType, cel.DoubleType, cel.ListType(cel.DynType), cel.MapType(cel.StringType, cel.DynType))
	}
	return &r
}

func (c *compiler) expression(path string, level Level, text string, types ...*cel.Type) *expression {
	env := c.environments[level]
	if env == nil {
		var err error
		if env, err = newEnvironment(level); err != nil {
			c.broken = fmt.Errorf("preparing the rules: %w", err)
			return nil
		}
		c.environments[level] = env
	}
	e, err := compile(env, text, types...)
	if err != nil {
		c.faults = append(c.faults, config.Fault{Position: c.config.Position(path), Path: path, Message: err.Error()})
	}
	return e
}
