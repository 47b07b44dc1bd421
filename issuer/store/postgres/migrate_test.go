package postgres_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
	"github.com/tallygate/tallygate/issuer/store/storetest"
	"github.com/tallygate/tallygate/revocation"
)

// Eight issuers that start at once on an empty database migrate it once.
func TestMigrationsAtOnce(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	o := options(t, url)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			s, err := postgres.Open(context.Background(), o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p"}), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := server.Value(url.Database, "SELECT string_agg(version::text, ',' ORDER BY version) FROM tallygate.schema_versions"); got != "1,2" {
		t.Errorf("the schema has the versions %s, want 1,2", got)
	}
}

// A database of an earlier release keeps its records when its schema is migrated. An issuer of the earlier release may still
// write to it.
func TestEarlierSchema(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	first, err := os.ReadFile("migrations/0001_state.sql")
	if err != nil {
		t.Fatal(err)
	}
	server.Exec(url.Database, "SET ROLE "+url.User+`; CREATE SCHEMA tallygate; CREATE TABLE tallygate.schema_versions (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT clock_timestamp());`+
		string(first)+`; INSERT INTO tallygate.schema_versions (version) VALUES (1); INSERT INTO tallygate.revocations (kind, subject, seq, client) VALUES (2, 'earlier', 1, ''); UPDATE tallygate.revocation_head SET seq = 1`)
	s := open(t, options(t, url))
	r, _ := storetest.Follow(t, s)
	r.WaitFor("earlier")
	if err := s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p", IssuedBy: at(1), Actor: "alice"}); err != nil {
		t.Fatal(err)
	}
	if audit := storetest.Audit(t, s); len(audit) != 1 || audit[0].Actor != "alice" {
		t.Errorf("the audit is %v, want one record of alice", audit)
	}
	server.Exec(url.Database, "INSERT INTO tallygate.revocations AS r (kind, subject, seq, client, issued_by, until) VALUES (2, 'of the earlier release', 3, '', NULL, NULL)",
		"UPDATE tallygate.revocation_head SET seq = 3")
	r.WaitFor("of the earlier release")
}

// Audit records cannot be changed or removed by mistake.
func TestAuditIsAppendOnly(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	s := open(t, options(t, url))
	if err := s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p", IssuedBy: at(1), Actor: "alice"}); err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"UPDATE tallygate.audit SET actor = 'bob'", "DELETE FROM tallygate.audit", "TRUNCATE tallygate.audit"} {
		server.Exec(url.Database, "DO $$ BEGIN "+change+"; EXCEPTION WHEN raise_exception THEN NULL; END $$")
		left := server.Value(url.Database, "SELECT count(*) FROM tallygate.audit WHERE actor = 'alice'")
		if left != "1" {
			t.Errorf("after %s the audit has %s records of alice, want 1", change, left)
		}
	}
}

// A schema of a later release is refused and not changed, and Attach migrates nothing.
func TestOtherSchema(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	o := options(t, url)
	refused := func(part string) {
		t.Helper()
		s, err := postgres.Open(context.Background(), o)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), part) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Open returned %v, want a lasting error with %q", err, part)
		}
	}
	o.Attach = true
	refused("it has version 0, and this program needs 2")
	if got := server.Value(url.Database, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tallygate'"); got != "0" {
		t.Error("Open with Attach has created a schema")
	}
	o.Attach = false
	open(t, o)
	server.Exec(url.Database, "INSERT INTO tallygate.schema_versions (version) VALUES (99)")
	refused("it has version 99, and this program knows versions up to 2")
	o.Attach = true
	refused("it has version 99")
}

// A role that owns the schema and nothing else suffices. Objects of other roles in its search_path are
// not used.
func TestOwnSchemaOnly(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	server.Exec(url.Database, "ALTER DATABASE "+url.Database+" OWNER TO admin", "REVOKE ALL ON DATABASE "+url.Database+" FROM PUBLIC", "GRANT CONNECT ON DATABASE "+url.Database+" TO "+url.User,
		"CREATE SCHEMA tallygate AUTHORIZATION "+url.User, "CREATE TABLE public.revocations ()", "CREATE TABLE public.tokens ()")
	s := open(t, options(t, url))
	if err := errors.Join(s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p"}), s.AddToken(sum("a"), store.Token{})); err != nil {
		t.Error(err)
	}
}
