package jwks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tallygate/tallygate/access"
)

// errOtherUse marks why a key is left out that is sound and for something else.
var errOtherUse = errors.New("it is for another use")

// mostNamed bounds how many keys one log line names.
const maxLogged = 10

// leftOut are the keys of a set that do not count, each with the reason.
type leftOut struct {
	unusable []string // malformed or weak: somebody should mend them
	otherUse []string // RFC 7517 section 5 has them skipped
}

// add records why the key number i of a set, counted from 0, is left out.
func (l *leftOut) add(i int, id string, reason error) {
	name := fmt.Sprintf("key %d without kid", i+1)
	if id != "" {
		name = fmt.Sprintf("kid %q", access.Truncate(id))
	}
	said := access.Truncate(fmt.Sprintf("%s: %v", name, reason))
	if errors.Is(reason, errOtherUse) {
		l.otherUse = append(l.otherUse, said)
	} else {
		l.unusable = append(l.unusable, said)
	}
}

// tell logs which keys of set are left out, where that is not what was told last.
func (s *Source) logLeftOut(ctx context.Context, set *Set) {
	now := &set.leftOut
	before := s.logged.Swap(now)
	if before == nil {
		before = &leftOut{}
	}
	if len(now.unusable) > 0 && !slices.Equal(before.unusable, now.unusable) {
		s.log.WarnContext(ctx, "unusable keys left out of the key set", "issuer", s.server, "count", len(now.unusable), "keys", firstLogged(now.unusable))
	}
	if len(now.otherUse) > 0 && !slices.Equal(before.otherUse, now.otherUse) {
		s.log.InfoContext(ctx, "keys for other uses left out of the key set", "issuer", s.server, "count", len(now.otherUse), "keys", firstLogged(now.otherUse))
	}
}

// named returns the first keys of a list, as many as one log line names.
func firstLogged(keys []string) []string { return keys[:min(len(keys), maxLogged)] }
