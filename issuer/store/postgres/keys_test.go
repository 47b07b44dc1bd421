package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
)

// The database never has a private key in the clear. Another encryption key cannot read it, a sealed
// key cannot be moved to another row, and the first encryption key replaces the others.
func TestSealedKeys(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	o := options(t, url)
	private := bytes.Repeat([]byte("private!"), 20)
	keys := []store.Key{{ID: "a", Private: private, Created: at(1), Activated: at(1)}, {ID: "b", Private: []byte("other"), Created: at(2)}}
	if err := open(t, o).ReplaceKeys(nil, keys); err != nil {
		t.Fatal(err)
	}
	if got := server.Value(url.Database, "SELECT count(*) FROM tallygate.keys WHERE position('private!'::bytea IN sealed) > 0"); got != "0" {
		t.Error("the database has a private key in the clear")
	}
	first := o.Database.EncryptionKeys
	reads := func(files ...config.Path) error {
		o.Database.EncryptionKeys = files
		s, err := postgres.Open(context.Background(), o)
		if err != nil {
			return err
		}
		defer s.Close()
		got, err := s.Keys()
		if err == nil && !bytes.Equal(got[0].Private, private) {
			t.Errorf("Keys returned %q, want the private key", got[0].Private)
		}
		return err
	}
	second := encryptionKey(t)
	if err := reads(second); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("with another encryption key Open returned %v, want a lasting error", err)
	}
	if err := reads(first[0], second); err != nil {
		t.Error(err)
	}
	if err := reads(second); err == nil {
		t.Error("the second encryption key has encrypted the signing keys")
	}
	if err := errors.Join(reads(second, first[0]), reads(second)); err != nil {
		t.Errorf("after the encryption keys were swapped: %v", err)
	}
	server.Exec(url.Database, "UPDATE tallygate.keys SET sealed = (SELECT sealed FROM tallygate.keys WHERE kid = 'b') WHERE kid = 'a'")
	if err := reads(second); err == nil || !contains(err.Error(), "key a") {
		t.Errorf("with the key of another row Keys returned %v, want an error that names it", err)
	}
}

// A file that is no encryption key is refused by name.
func TestEncryptionKeyFiles(t *testing.T) {
	o := options(t, testpostgres.Shared(t).Database())
	for name, content := range map[string]string{"short": "c2hvcnQ=", "no base64": "%%%", "empty": "", "hex": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"} {
		file := t.TempDir() + "/key"
		write(t, file, content)
		o.Database.EncryptionKeys = []config.Path{config.Path(file)}
		if s, err := postgres.Open(context.Background(), o); err == nil {
			t.Errorf("%s: Open returned nil, want an error", name)
			_ = s.Close()
		} else if !contains(err.Error(), file) || content != "" && contains(err.Error(), content) {
			t.Errorf("%s: Open returned %v, want the name of the file and not its content", name, err)
		}
	}
}

// A replica is the signing keys of one process, with a clock that the test sets.
type replica struct {
	*keyring.Ring
	clock *time.Time
}

func newReplica(t *testing.T, o postgres.Options, algorithm config.Algorithm, clock *time.Time) replica {
	t.Helper()
	ring, err := keyring.Open(keyring.Options{
		Store: open(t, o), Signing: config.Signing{Algorithm: algorithm, Rotate: 24 * time.Hour}, TokenLifetime: time.Hour, Shared: true,
		Reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "good"}), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return *clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	return replica{ring, clock}
}

func (r replica) states() (states, kids string) {
	for _, s := range r.Keys() {
		states += s.State + " "
		kids += s.ID + " "
	}
	return states, kids
}

// Processes that start at once create one pair of keys, a due rotation happens once, and every process
// publishes a key before any of them signs with it.
func TestSharedRotation(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	o := options(t, url)
	clock := time.Now()
	const replicas = 4
	all := make([]replica, replicas)
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() { all[i] = newReplica(t, o, config.ES256, &clock) })
	}
	wait.Wait()
	same := func(want string) {
		t.Helper()
		states, kids := all[0].states()
		if states != want {
			t.Errorf("the keys are %s, want %s", states, want)
		}
		for _, r := range all[1:] {
			if _, other := r.states(); other != kids {
				t.Errorf("a process publishes %s, another %s", other, kids)
			}
		}
	}
	same("active next ")
	_, before := all[0].states()

	// A second rotation right after a rotation is refused, because the other processes do not publish the next key
	// yet.
	if err := all[0].Rotate(); !errors.Is(err, store.ErrUnpublished) {
		t.Errorf("Rotate of a new key returned %v, want ErrUnpublished", err)
	}
	server.Exec(url.Database, "UPDATE tallygate.keys SET stored = stored - interval '1 minute'")
	clock = clock.Add(25 * time.Hour)
	for _, r := range all {
		wait.Go(func() {
			if err := r.Refresh(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, r := range all { // the processes whose rotation failed have read the new keys at once
		if err := r.Current(); err != nil {
			t.Error(err)
		}
	}
	same("old active next ")
	if _, after := all[0].states(); !contains(after, before) {
		t.Errorf("the keys were %s and are %s, want only one key more", before, after)
	}
	for _, signer := range all {
		token, err := signer.Sign("at+jwt", jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if err := r.Parse(token, "at+jwt", &jwt.RegisteredClaims{}); err != nil {
				t.Error(err)
			}
		}
	}
}

// After a change of the algorithm, the next key has the new algorithm, and the active key signs until
// every process publishes the next key.
func TestSharedAlgorithm(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	o := options(t, url)
	clock := time.Now()
	previous := newReplica(t, o, config.ES256, &clock)
	changed := newReplica(t, o, config.EdDSA, &clock)
	algorithms := func(r replica) (all string) {
		for _, s := range r.Keys() {
			all += s.State + " " + s.Algorithm + " "
		}
		return all
	}
	for _, r := range []replica{changed, previous, changed} {
		if err := r.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	if got := algorithms(changed); got != "active ES256 next EdDSA " {
		t.Errorf("the keys are %s, want the new algorithm next", got)
	}
	server.Exec(url.Database, "UPDATE tallygate.keys SET stored = stored - interval '1 minute'")
	if err := changed.Refresh(); err != nil {
		t.Fatal(err)
	}
	if got := algorithms(changed); got != "old ES256 active EdDSA next EdDSA " {
		t.Errorf("the keys are %s, want the new algorithm active", got)
	}
}
