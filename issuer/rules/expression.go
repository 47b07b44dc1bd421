package rules

import (
	"errors"
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/parser"
)

const (
	// costLimit bounds one evaluation, in CEL's units: a comparison costs 1, so this is
	// some milliseconds at most.
	costLimit = 20_000

	maxExpression = 4 << 10 // characters
	maxNesting    = 50      // of parentheses and calls
	maxMacros     = 8       // all, exists, map and the like
)

// newEnvironment returns what expressions may use: the variables, the standard
// functions and those on network addresses. None does I/O. The library for strings is left
// out: the limit does not count how large the results of replace and join are. The scope
// is a variable only where one is being judged.
func newEnvironment(level Level) (*cel.Env, error) {
	options := []cel.EnvOption{
		ext.NativeTypes(ext.ParseStructTags(true), reflect.TypeFor[Client](), reflect.TypeFor[Certificate](), reflect.TypeFor[Request](), reflect.TypeFor[Granted]()),
		ext.Network(),
		cel.Variable("client", cel.ObjectType("rules.Client")),
		cel.Variable("certificate", cel.ObjectType("rules.Certificate")),
		cel.Variable("request", cel.ObjectType("rules.Request")),
		cel.Variable("granted", cel.ObjectType("rules.Granted")),
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
	if err := checkGrowth(tree); err != nil {
		return nil, err
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

// growth refuses what lets values grow faster than the cost limit counts: it takes the
// addition of two lists for one step, however long they are, and counts the comparison
// of two values only when it has been made. Who writes rules is trusted; this is against
// mistakes.
func checkGrowth(tree *cel.Ast) error {
	native := tree.NativeRep()
	root := celast.NavigateAST(native)
	if n := len(celast.MatchDescendants(root, celast.KindMatcher(celast.ComprehensionKind))); n > maxMacros {
		return fmt.Errorf("the expression has %d macros such as all, exists and map, more than %d", n, maxMacros)
	}
	for _, call := range celast.MatchDescendants(root, celast.FunctionMatcher(operators.Add)) {
		// The macro map adds a list of one in each of its steps.
		if isMacroAppend(call) {
			continue
		}
		if kind := call.Type().Kind(); kind == types.ListKind || kind == types.DynKind {
			return errors.New("lists cannot be added, nor values of unknown type")
		}
	}
	return nil
}

// isMacroAppend reports whether call is the addition by which a macro makes its list, not one
// that somebody wrote: the name of that list cannot be written.
func isMacroAppend(call celast.NavigableExpr) bool {
	args := call.AsCall().Args()
	return len(args) == 2 && args[0].Kind() == celast.IdentKind && args[0].AsIdent() == parser.HiddenAccumulatorName
}

var errNotBool = errors.New("the expression is neither true nor false")

// truth evaluates an expression that is true or false.
func (e *expression) evalBool(v *values) (bool, error) {
	result, _, err := e.program.Eval(v.activation())
	if err != nil {
		return false, err
	}
	yes, ok := result.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(yes), nil
}
