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
	// costLimit bounds one evaluation in CEL's cost units. A comparison costs 1 unit, and an
	// evaluation that reaches the limit takes a few milliseconds.
	costLimit = 20_000

	maxExpression = 4 << 10 // the most characters of an expression
	maxNesting    = 50      // the most levels of nested parentheses and calls
	maxMacros     = 8       // the most macros, such as all, exists and map
)

// newEnvironment returns the variables and functions of expressions: the standard functions, and
// functions on network addresses. No function does I/O. CEL's string library is not included, because
// the cost limit ignores the size of the results of replace and join. Only scope rules have the
// variable scope.
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

// An expression is a compiled and type-checked CEL expression.
type expression struct {
	program cel.Program
}

// compile compiles text. The type of the expression's result must be in types.
func compile(env *cel.Env, text string, types ...*cel.Type) (*expression, error) {
	tree, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("%s (line %d, character %d of the expression)", first.Message, first.Location.Line(), first.Location.Column()+1)
	}
	if err := checkGrowth(tree); err != nil {
		return nil, err
	}
	allowed := false
	for _, t := range types {
		allowed = allowed || tree.OutputType().Kind() == t.Kind()
	}
	if !allowed {
		return nil, fmt.Errorf("the expression has type %s, want %s", tree.OutputType(), types[0])
	}
	// No option may track evaluation state, because such an option disables the cost limit.
	program, err := env.Program(tree, cel.CostLimit(costLimit))
	if err != nil {
		return nil, err
	}
	return &expression{program}, nil
}

// checkGrowth refuses expressions whose values grow faster than their cost. CEL counts the addition
// of two lists as one step for any length of the lists, and counts a comparison only after it was
// made. The authors of rules are trusted, so checkGrowth protects only against mistakes.
func checkGrowth(tree *cel.Ast) error {
	native := tree.NativeRep()
	root := celast.NavigateAST(native)
	if n := len(celast.MatchDescendants(root, celast.KindMatcher(celast.ComprehensionKind))); n > maxMacros {
		return fmt.Errorf("the expression has %d macros such as all, exists and map, more than %d", n, maxMacros)
	}
	for _, call := range celast.MatchDescendants(root, celast.FunctionMatcher(operators.Add)) {
		// The addition is made by the macro map, which appends a list with one element in each step.
		if isMacroAppend(call) {
			continue
		}
		if kind := call.Type().Kind(); kind == types.ListKind || kind == types.DynKind {
			return errors.New("lists and values of unknown type cannot be added")
		}
	}
	return nil
}

// isMacroAppend reports whether call is the addition with which a macro builds its list. The first
// operand is a hidden variable, which expressions cannot name.
func isMacroAppend(call celast.NavigableExpr) bool {
	args := call.AsCall().Args()
	return len(args) == 2 && args[0].Kind() == celast.IdentKind && args[0].AsIdent() == parser.HiddenAccumulatorName
}

var errNotBool = errors.New("the result is not a boolean")

// evalBool evaluates a boolean expression.
func (e *expression) evalBool(v *values) (bool, error) {
	result, _, err := e.program.Eval(v.activation())
	if err != nil {
		return false, err
	}
	value, ok := result.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(value), nil
}
