package jwks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
)

// errOtherUse is the reason to leave out a valid key that is meant for another purpose than signatures,
// such as encryption.
var errOtherUse = errors.New("for another use")

// The maximum number of keys in a log line about a key set, and in a log line about a request.
const (
	maxLogged    = 10
	maxDescribed = 3
)

// leftOut lists the keys of a set that are left out, with the reasons.
type leftOut struct {
	unusable []string // malformed or weak keys, and keys of algorithms that are not accepted
	otherUse []string // keys that are not for signatures
}

// text lists at most n of the keys with their reasons.
func (l *leftOut) text(n int) string {
	left := slices.Concat(l.unusable, l.otherUse)
	text := strings.Join(left[:min(len(left), n)], "; ")
	if more := len(left) - n; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// describe lists the keys of the set, and says why other keys are left out.
func (s *Set) describe() string {
	var b strings.Builder
	b.WriteString("the key set has")
	for i, k := range s.keys[:min(len(s.keys), maxDescribed)] {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " kid %q for %s", access.Truncate(k.id), k.algorithms)
	}
	if more := len(s.keys) - maxDescribed; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	if left := s.leftOut.text(maxDescribed); left != "" {
		b.WriteString("; left out: " + left)
	}
	return b.String()
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
