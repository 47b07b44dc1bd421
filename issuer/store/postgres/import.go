package postgres

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tallygate/tallygate/issuer/store"
)

// Imported is the number of records that [Store.Import] has found in a file and in the database.
type Imported struct {
	Keys, Tokens, Revocations, Audit int
}

// errOtherKeys means that the database belongs to another issuer.
var errOtherKeys = errors.New("the database has other signing keys: an issuer was started with it before the import, or it belongs to another issuer")

// importers is the number of records that are stored at the same time, so that they share transactions.
const importers = 64

// Import copies the state in from, and then checks that every record of from is in the database. It can
// be repeated, after an interruption too: records that are already stored stay. Revocations come first
// and signing keys last, so that an issuer that is started in between knows no signing key whose
// revoked tokens it does not know. from is not changed.
func (s *Store) Import(from *store.File) (n Imported, err error) {
	keys, err := from.Keys()
	if err != nil {
		return n, err
	}
	if err := s.checkImport(keys); err != nil {
		return n, err
	}
	n.Revocations, err = inParallel(from.Revocations, s.Revoke)
	if err == nil {
		n.Audit, err = s.importAudit(from)
	}
	if err == nil {
		n.Tokens, err = inParallel(eachToken(from), func(t newToken) error {
			if err := s.AddToken(t.sum, t.Token); !errors.Is(err, store.ErrExists) {
				return err
			}
			return nil
		})
	}
	if err == nil {
		n.Keys, err = len(keys), s.importKeys(keys)
	}
	if err != nil {
		return n, err
	}
	return n, s.verifyImport(from, keys)
}

// checkImport returns an error if the database has keys, and keys is not among them.
func (s *Store) checkImport(keys []store.Key) error {
	stored, err := s.Keys()
	if err != nil || len(stored) == 0 {
		return err
	}
	present := make(map[string]bool, len(stored))
	for _, k := range stored {
		present[k.ID] = true
	}
	for _, k := range keys {
		if !present[k.ID] {
			return errOtherKeys
		}
	}
	return nil
}

// importKeys stores keys, unless the database has keys already.
func (s *Store) importKeys(keys []store.Key) error {
	err := s.ReplaceKeys(nil, keys)
	if errors.Is(err, store.ErrChanged) {
		return s.checkImport(keys)
	}
	return err
}

func eachToken(from *store.File) func(func(newToken) error) error {
	return func(each func(newToken) error) error {
		return from.Tokens(func(sum [32]byte, t store.Token) error { return each(newToken{sum, t}) })
	}
}

// verifyImport returns an error if a record of from is not in the database.
func (s *Store) verifyImport(from *store.File, keys []store.Key) error {
	held := make(map[string]store.Revocation)
	id := func(r store.Revocation) string { return fmt.Sprint(r.Kind, " ", r.Subject) }
	if err := s.Revocations(func(r store.Revocation) error { held[id(r)] = r; return nil }); err != nil {
		return err
	}
	err := from.Revocations(func(r store.Revocation) error {
		got, ok := held[id(r)]
		if !ok || got.IssuedBy.Unix() < r.IssuedBy.Unix() || !got.Until.IsZero() && (r.Until.IsZero() || got.Until.Unix() < r.Until.Unix()) {
			return errors.New("a revocation is not in the database after the import")
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = inParallel(eachToken(from), func(t newToken) error {
		_, ok, err := s.Token(t.sum)
		if err == nil && !ok {
			err = errors.New("a token is not in the database after the import")
		}
		return err
	})
	return errors.Join(err, s.verifyAudit(from), s.checkImport(keys))
}

// inParallel iterates with each, and calls do with every value, in several goroutines. It returns the
// number of values and the first error.
func inParallel[T any](each func(func(T) error) error, do func(T) error) (n int, err error) {
	values := make(chan T)
	failed := make(chan error, importers)
	stop := make(chan struct{})
	var once sync.Once
	var workers sync.WaitGroup
	for range importers {
		workers.Go(func() {
			for v := range values {
				if err := do(v); err != nil {
					failed <- err
					once.Do(func() { close(stop) })
					return
				}
			}
		})
	}
	err = each(func(v T) error {
		select {
		case values <- v:
			n++
			return nil
		case <-stop:
			return errStopped
		}
	})
	close(values)
	workers.Wait()
	select {
	case first := <-failed:
		return n, first
	default:
		return n, err
	}
}

var errStopped = errors.New("another record could not be stored")
