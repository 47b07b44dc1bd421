package config

import (
	"fmt"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Validate checks that required settings are set, numbers are in range, names are unique, references
// resolve, and no setting that decides about access is empty. It opens no file and does not change c.
// The error is [Faults], with all faults.
func (c *Config) Validate() error { return c.check().Err() }

// check returns the faults of c. It omits faults that are only consequences of a value that could not
// be decoded.
func (c *Config) check() Faults {
	k := &checker{config: c, clients: make(map[ClientID]string)}
	k.listener()
	k.authorizationServers()
	k.apis()
	k.dpop()
	k.partners()
	k.identityHeaders()
	k.issuer()
	k.revocations()
	k.tracing()
	k.addresses()
	k.inRange("drain.delay", k.config.Drain.Delay, 0, mostDrain)
	k.inRange("drain.timeout", k.config.Drain.Timeout, time.Millisecond, mostDrain)
	return k.faults
}

// checker collects the faults of a configuration.
type checker struct {
	config  *Config
	clients map[ClientID]string // the path of the application or resource server, by its client_id
	faults  Faults
}

// fault records a fault of the value at path, unless the value could not be decoded.
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

// require records a fault unless the value at path is present.
func (k *checker) require(path string, present bool) {
	if !present {
		k.fault(path, "is required")
	}
}

// keyPair records a fault if the certificate is set and the key is not, or the key is set and the
// certificate is not.
func (k *checker) keyPair(path string, pair KeyPair) {
	k.require(path+".certificate", pair.Certificate != "" || pair.Key == "")
	k.require(path+".key", pair.Key != "" || pair.Certificate == "")
}

// some records a fault if the list at path has no elements. why may be empty.
func (k *checker) some(path string, elements int, why string) {
	if elements > 0 {
		return
	}
	if why != "" {
		why = ": " + why
	}
	k.fault(path, "at least one is required%s", why)
}

// notEmpty records a fault if the list at path is set and empty. effect says what an empty list would
// mean.
func notEmpty[T any](k *checker, path string, list []T, effect string) {
	if list != nil && len(list) == 0 {
		k.fault(path, "an empty list %s", effect)
	}
}

// chosen returns the choices whose element of set is true.
func chosen(choices []string, set ...bool) []string {
	var made []string
	for i, s := range set {
		if s {
			made = append(made, choices[i])
		}
	}
	return made
}

// inRange records a fault unless value is from least to most.
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

// line returns the line of the value at path, for a message about another value. It returns "" if the
// configuration was not read from a file.
func (k *checker) line(path string) string {
	if at := k.config.Position(path); at.Line > 0 {
		return fmt.Sprintf(" on line %d", at.Line)
	}
	return ""
}

// unique records in seen that the value at path is v. If seen already has v, it records a fault. what
// names v in the message, such as "the name". A zero v is skipped, because the value is missing or
// could not be decoded.
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

// distinct records a fault for each element of the list at path that equals an earlier element.
func distinct[T comparable](k *checker, path string, list []T) {
	if len(list) < 2 {
		return
	}
	var zero T
	seen := make(map[T]int, len(list))
	for i, v := range list {
		first, ok := seen[v]
		switch {
		case v == zero: // the element could not be decoded, or already has a fault
		case ok:
			k.fault(strictyaml.Index(path, i), "is the same as %s", strictyaml.Index(path, first))
		default:
			seen[v] = i
		}
	}
}

// files records a fault for each empty path in the list and for each path that is listed twice.
func (k *checker) files(path string, list []Path) {
	for i, p := range list {
		k.require(strictyaml.Index(path, i), p != "")
	}
	distinct(k, path, list)
}
