package access_test

import (
	"errors"
	"fmt"

	"github.com/tallygate/tallygate/access"
)

func ExampleReasonOf() {
	err := fmt.Errorf("checking the token: %w", &access.Denial{Reason: access.Expired})
	r := access.ReasonOf(err)
	fmt.Println(r, r.Status(), r.Code(), r.Stage())

	// An error without a Denial is a bug and never grants.
	fmt.Println(access.ReasonOf(errors.New("a bug")))
	// Output:
	// expired 401 invalid_token token
	// undecided
}

func ExampleParseThumbprint() {
	t, err := access.ParseThumbprint("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0") // RFC 8705 Appendix A
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(t.Hex())
	// Output: 0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd
}

func ExampleMismatch() {
	err := access.Mismatch{Name: "aud", Want: "https://api.example", Got: `["https://other.example"]`}
	fmt.Println(err.Error())
	// Output: aud: want https://api.example, got ["https://other.example"]
}
