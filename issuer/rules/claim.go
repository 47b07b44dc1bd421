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
	maxClaim  = 4 << 10 // the most bytes of a claim's JSON
	maxValues = 1000    // the most values in one claim; nested values count too
)

// evalClaim evaluates an expression whose result is the value of a claim.
func (e *expression) evalClaim(v *values) (any, error) {
	result, _, err := e.program.Eval(v.activation())
	if err != nil {
		return nil, err
	}
	value, err := jsonValue(result, &budget{values: maxValues, bytes: maxClaim})
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(value) // at most 6 × maxClaim bytes, if every character is escaped
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
	errClaimSize   = fmt.Errorf("the claim has more than %d bytes of JSON", maxClaim)
)

// A budget is the size that the rest of a claim may have.
type budget struct {
	values int
	bytes  int // how many bytes of JSON are left
}

// take subtracts values and bytes from b. It returns an error if b has fewer. take must be called
// before a value is built, because a cheap expression can repeat one text a thousand times.
func (b *budget) take(values, bytes int) error {
	b.values -= values
	b.bytes -= bytes
	switch {
	case b.values < 0:
		return errClaimValues
	case b.bytes < 0:
		return errClaimSize
	}
	return nil
}

// jsonValue returns v as a value for encoding/json, or an error if v exceeds the budget. It counts
// the fewest bytes that the JSON of v can have, so that it refuses no claim that would fit.
func jsonValue(v ref.Val, remaining *budget) (any, error) {
	switch v := v.(type) {
	case types.Bool, types.Int, types.Double:
		return v.Value(), remaining.take(1, len("0"))
	case types.String:
		return v.Value(), remaining.take(1, len(`""`)+len(v))
	case traits.Mapper:
		return jsonMap(v, remaining)
	case traits.Lister:
		return jsonList(v, remaining)
	}
	return nil, fmt.Errorf("a value of type %s cannot be a claim", v.Type().TypeName())
}

func jsonMap(v traits.Mapper, remaining *budget) (any, error) {
	if err := remaining.take(1, len("{}")); err != nil {
		return nil, err
	}
	out := make(map[string]any)
	for i := v.Iterator(); i.HasNext() == types.True; {
		key, ok := i.Next().(types.String)
		if !ok {
			return nil, errors.New("a map in a claim has a key that is not a string")
		}
		if err := remaining.take(0, len(`"":`)+len(key)); err != nil {
			return nil, err
		}
		value, err := jsonValue(v.Get(key), remaining)
		if err != nil {
			return nil, err
		}
		out[string(key)] = value
	}
	return out, nil
}

func jsonList(v traits.Lister, remaining *budget) (any, error) {
	if err := remaining.take(1, len("[]")); err != nil {
		return nil, err
	}
	out := []any{}
	for i := v.Iterator(); i.HasNext() == types.True; {
		value, err := jsonValue(i.Next(), remaining)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, nil
}
