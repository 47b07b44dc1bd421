package rules

import (
	"encoding/json"
	"errors"
	"fmt"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

const (
	maxClaim  = 4 << 10 // bytes of JSON
	maxValues = 1000    // in a claim
)

// claim evaluates an expression that is a claim's value.
func (e *expression) evalClaim(v *values) (any, error) {
	result, _, err := e.program.Eval(v.activation())
	if err != nil {
		return nil, err
	}
	value, err := jsonValue(result, &budget{values: maxValues, bytes: maxClaim})
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(value) // six times the room at most, all of it escapes
	if err != nil {
		return nil, err
	}
	if len(encoded) > maxClaim {
		return nil, errClaimSize
	}
	return value, nil
}

var (
	errClaimValues = fmt.Errorf("the claim has more than %d values", maxValues)
	errClaimSize   = fmt.Errorf("the claim takes more than %d bytes", maxClaim)
)

// A room is what a claim may still take.
type budget struct {
	values int
	bytes  int // of JSON
}

// take takes that much of r, unless there is less. It is asked before anything is made:
// an expression that costs little can hold one text a thousand times.
func (r *budget) take(values, bytes int) error {
	r.values -= values
	r.bytes -= bytes
	switch {
	case r.values < 0:
		return errClaimValues
	case r.bytes < 0:
		return errClaimSize
	}
	return nil
}

// plain returns v as a value for encoding/json, unless it takes more than there is room
// for. Of each it counts the least that JSON needs, so that nothing is refused for its
// bytes that would fit.
func jsonValue(v ref.Val, budget *budget) (any, error) {
	switch v := v.(type) {
	case types.Bool, types.Int, types.Double:
		return v.Value(), budget.take(1, len("0"))
	case types.String:
		return v.Value(), budget.take(1, len(`""`)+len(v))
	case traits.Mapper:
		return jsonMap(v, budget)
	case traits.Lister:
		return jsonList(v, budget)
	}
	return nil, fmt.Errorf("a value of type %s cannot be a claim", v.Type().TypeName())
}

func jsonMap(v traits.Mapper, budget *budget) (any, error) {
	if err := budget.take(1, len("{}")); err != nil {
		return nil, err
	}
	out := make(map[string]any)
	for i := v.Iterator(); i.HasNext() == types.True; {
		key, ok := i.Next().(types.String)
		if !ok {
			return nil, errors.New("a map in a claim has a key that is no text")
		}
		if err := budget.take(0, len(`"":`)+len(key)); err != nil {
			return nil, err
		}
		value, err := jsonValue(v.Get(key), budget)
		if err != nil {
			return nil, err
		}
		out[string(key)] = value
	}
	return out, nil
}

func jsonList(v traits.Lister, budget *budget) (any, error) {
	if err := budget.take(1, len("[]")); err != nil {
		return nil, err
	}
	out := []any{}
	for i := v.Iterator(); i.HasNext() == types.True; {
		value, err := jsonValue(i.Next(), budget)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, nil
}
