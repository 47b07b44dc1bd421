package governance

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

const (
	// costLimit bounds one evaluation, in CEL's units: a comparison costs 1, so this is
	// some milliseconds at most.
	costLimit = 20_000

	maxExpression = 4 << 10 // characters
	maxNesting    = 50      // of parentheses and calls
	maxClaim      = 4 << 10 // bytes of JSON
)

// newEnvironment returns what expressions may use: the variables, the standard
// functions and those on network addresses. None does I/O. The library for strings is left
// out: the limit does not count how large the results of replace and join are. The scope
// is a variable only where one is being judged.
func newEnvironment(level Level) (*cel.Env, error) {
	options := []cel.EnvOption{
		ext.NativeTypes(ext.ParseStructTags(true), reflect.TypeFor[Client](), reflect.TypeFor[Certificate](), reflect.TypeFor[Request](), reflect.TypeFor[Granted]()),
		ext.Network(),
		cel.Variable("client", cel.ObjectType("governance.Client")),
		cel.Variable("certificate", cel.ObjectType("governance.Certificate")),
		cel.Variable("request", cel.ObjectType("governance.Request")),
		cel.Variable("granted", cel.ObjectType("governance.Granted")),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxNesting),
	}
	if level == Scope {
		options = append(options, cel.Variable("scope", cel.StringType))
	}
	return cel.NewEnv(options...)
}

// An expression is compiled and type-checked.
type expression struct {
	program cel.Program
}

// compile returns text as an expression of one of the types.
func compile(env *cel.Env, text string, types ...*cel.Type) (*expression, error) {
	tree, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("%s (line %d, character %d of the expression)", first.Message, first.Location.Line(), first.Location.Column()+1)
	}
	fits := false
	for _, t := range types {
		fits = fits || tree.OutputType().Kind() == t.Kind()
	}
	if !fits {
		return nil, fmt.Errorf("the expression is of type %s, not %s", tree.OutputType(), types[0])
	}
	// No option that tracks state: with one of those, the limit would not be kept.
	program, err := env.Program(tree, cel.CostLimit(costLimit))
	if err != nil {
		return nil, err
	}
	return &expression{program}, nil
}

var errTruth = errors.New("the expression is neither true nor false")

// truth evaluates an expression that is true or false.
func (e *expression) truth(v *values) (bool, error) {
	result, _, err := e.program.Eval(v.activation())
	if err != nil {
		return false, err
	}
	yes, ok := result.(types.Bool)
	if !ok {
		return false, errTruth
	}
	return bool(yes), nil
}

// claim evaluates an expression that is a claim's value.
func (e *expression) claim(v *values) (any, error) {
	result, _, err := e.program.Eval(v.activation())
	if err != nil {
		return nil, err
	}
	value, err := plain(result)
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if len(encoded) > maxClaim {
		return nil, fmt.Errorf("the claim takes %d bytes, more than %d", len(encoded), maxClaim)
	}
	return value, nil
}

// plain returns v as a value for encoding/json.
func plain(v ref.Val) (any, error) {
	switch v := v.(type) {
	case types.Bool, types.Int, types.Double, types.String:
		return v.Value(), nil
	case traits.Mapper:
		out := make(map[string]any)
		for i := v.Iterator(); i.HasNext() == types.True; {
			key, ok := i.Next().(types.String)
			if !ok {
				return nil, errors.New("a map in a claim has a key that is no text")
			}
			value, err := plain(v.Get(key))
			if err != nil {
				return nil, err
			}
			out[string(key)] = value
		}
		return out, nil
	case traits.Lister:
		out := []any{}
		for i := v.Iterator(); i.HasNext() == types.True; {
			value, err := plain(i.Next())
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		return out, nil
	}
	return nil, fmt.Errorf("a value of type %s cannot be a claim", v.Type().TypeName())
}
