package jwks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tallygate/tallygate/access"
)

// errOtherUse is the reason to leave out a valid key that is for another purpose.
var errOtherUse = errors.New("for another use")

// maxLogged bounds the keys that one log line lists.
const maxLogged = 10

// leftOut lists the keys of a set that are left out, with the reasons.
type leftOut struct {
	unusable []string // malformed or weak keys, which the server's operator should fix
	otherUse []string // keys that RFC 7517 section 5 says to ignore
}

// add records the reason to leave out key i, counted from 0.
func (l *leftOut) add(i int, id string, reason error) {
	name := fmt.Sprintf("key %d without kid", i+1)
	if id != "" {
		name = fmt.Sprintf("kid %q", access.Truncate(id))
	}
	entry := access.Truncate(fmt.Sprintf("%s: %v", name, reason))
	if errors.Is(reason, errOtherUse) {
		l.otherUse = append(l.otherUse, entry)
	} else {
		l.unusable = append(l.unusable, entry)
	}
}

// logLeftOut logs the keys that are left out of set, unless the same list was logged before.
func (s *Source) logLeftOut(ctx context.Context, set *Set) {
	now := &set.leftOut
	previous := s.logged.Swap(now)
	if previous == nil {
		previous = &leftOut{}
	}
	if len(now.unusable) > 0 && !slices.Equal(previous.unusable, now.unusable) {
		s.log.WarnContext(ctx, "unusable keys left out of the key set", "issuer", s.server, "count", len(now.unusable), "keys", firstLogged(now.unusable))
	}
	if len(now.otherUse) > 0 && !slices.Equal(previous.otherUse, now.otherUse) {
		s.log.InfoContext(ctx, "keys for other uses left out of the key set", "issuer", s.server, "count", len(now.otherUse), "keys", firstLogged(now.otherUse))
	}
}

func firstLogged(keys []string) []string { return keys[:min(len(keys), maxLogged)] }
