package validate

import (
	"fmt"

	"github.com/tallygate/tallygate/access"
)

// deny returns a refusal whose caller is not known. format and args are detail for
// the log: what they quote of a token is clipped, and never its signature.
func deny(reason access.Reason, format string, args ...any) error {
	return &access.Denial{Reason: reason, Err: fmt.Errorf(format, args...)}
}
