package config

import (
	"fmt"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Validate judges the tree: what is required is there, numbers are sane, names are
// unique, references resolve, and nothing that decides about access is left empty.
// It opens no file and changes nothing. The error is [Faults], all there are.
func (c *Config) Validate() error { return c.check().Err() }

// check returns what is wrong with c, except for what only follows from a value at
// a path in failed, which could not be decoded.
func (c *Config) check() Faults {
	k := &checker{config: c, clients: make(map[ClientID]string)}
	k.listener()
	k.authorizationServers()
	k.apis()
	k.partners()
	k.identityHeaders()
	k.issuer()
	k.addresses()
	k.inRange("drain.delay", k.config.Drain.Delay, 0, mostDrain)
	k.inRange("drain.timeout", k.config.Drain.Timeout, time.Millisecond, mostDrain)
	return k.faults
}

// checker collects what is wrong with a tree.
type checker struct {
	config  *Config
	clients map[ClientID]string // where each was first, application or resource server
	faults  Faults
}

// fault records what is wrong with the value at path, unless it is a consequence
// of what could not be decoded.
func (k *checker) fault(path, format string, args ...any) {
	if k.undecoded(path) {
		return
	}
	k.faults = append(k.faults, Fault{
		Position: k.config.Position(path),
		Path:     path,
		Message:  fmt.Sprintf(format, args...),
	})
}

// undecoded reports whether the value at path, or a value around it, could not be decoded.
func (k *checker) undecoded(path string) bool { return k.config.source.Failed(path) }

// decodedFully reports whether the value at path and all values inside it could be decoded.
func (k *checker) decodedFully(path string) bool { return k.config.source.Complete(path) }

// isSet reports whether the file has a value at path.
func (k *checker) isSet(path string) bool { return k.config.source.Has(path) }

// require records a fault unless there is a value at path.
func (k *checker) require(path string, present bool) {
	if !present {
		k.fault(path, "is required")
	}
}

// inRange records a fault unless least <= value <= most.
func (k *checker) inRange(path string, value, least, most time.Duration) {
	if value < least || value > most {
		k.fault(path, "must be from %v to %v, is %v", least, most, value)
	}
}

// positive records a fault unless value is at least 1.
func (k *checker) positive(path string, value int64) {
	if value < 1 {
		k.fault(path, "must be at least 1, is %d", value)
	}
}

// line returns where the value at path stands, for a message about another value;
// without a file, nothing.
func (k *checker) line(path string) string {
	if at := k.config.Position(path); at.Line > 0 {
		return fmt.Sprintf(" on line %d", at.Line)
	}
	return ""
}

// unique records, in seen, that the value at path is v, and a fault if another
// value was before. what says what v is, such as "the name". The zero value is
// none: it could not be decoded, or is missing.
func unique[T comparable](k *checker, seen map[T]string, path, what string, v T) {
	var zero T
	if v == zero {
		return
	}
	if first, ok := seen[v]; ok {
		k.fault(path, "%s %s is already used by %s%s", what, strictyaml.Quote(fmt.Sprint(v)), first, k.line(first))
		return
	}
	seen[v] = path
}

// distinct records a fault for every element of the list at path that an earlier
// one equals.
func distinct[T comparable](k *checker, path string, list []T) {
	if len(list) < 2 {
		return
	}
	var zero T
	seen := make(map[T]int, len(list))
	for i, v := range list {
		first, ok := seen[v]
		switch {
		case v == zero: // could not be decoded, or is a fault already
		case ok:
			k.fault(strictyaml.Index(path, i), "is the same as %s", strictyaml.Index(path, first))
		default:
			seen[v] = i
		}
	}
}

// files records a fault for every path of the list that names no file, and for one
// that is named twice.
func (k *checker) files(path string, list []Path) {
	for i, p := range list {
		k.require(strictyaml.Index(path, i), p != "")
	}
	distinct(k, path, list)
}
