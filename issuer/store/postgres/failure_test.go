package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
	"github.com/tallygate/tallygate/issuer/store/storetest"
	"github.com/tallygate/tallygate/revocation"
)

// childVariable is set in a child process: the port, the database and the file of the encryption key.
const childVariable = "TALLYGATE_POSTGRES_TEST_CHILD"

// writeUntilKilled is the child process of TestKilled. It gets errors when the database is killed.
func writeUntilKilled(arguments string) {
	words := strings.Fields(arguments)
	port, _ := strconv.Atoi(words[0])
	storetest.WriteUntilKilled(func() (storetest.Store, error) {
		return postgres.Open(context.Background(), postgres.Options{
			Database: config.Database{
				URL:             config.DatabaseURL{User: words[1], Database: words[1], Hosts: []config.DatabaseHost{{Host: "127.0.0.1", Port: port}}},
				InsecureSSLMode: config.SSLDisable, EncryptionKeys: []config.Path{config.Path(words[2])},
			},
			Log: slog.New(slog.DiscardHandler),
		})
	}, store.ErrUnavailable)
}

// Acknowledged writes survive kill -9 of the issuer and a crash of the database.
func TestKilled(t *testing.T) {
	t.Parallel()
	server := testpostgres.Start(t, "fsync=on", "full_page_writes=on")
	url := server.Database()
	o := options(t, url)
	o.Database.InsecureSSLMode = config.SSLDisable
	acknowledged := make(map[string]bool)
	for round := range 4 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+fmt.Sprint(server.Port(), " ", url.User, " ", o.Database.EncryptionKeys[0]))
		if round%2 == 0 {
			storetest.RunUntilKilled(t, child, acknowledged, 20+round*17, nil)
			continue
		}
		storetest.RunUntilKilled(t, child, acknowledged, 20+round*17, server.Kill)
		server.Restart()
	}
	storetest.CheckAcknowledged(t, open(t, o), acknowledged)
	if len(acknowledged) < 100 {
		t.Errorf("%d writes were acknowledged, want 100 at least", len(acknowledged))
	}
	t.Logf("%d acknowledged, none lost", len(acknowledged))
}

// While the database is away, every method returns an error in bounded time, and the state is no
// longer current. When the database is back, the store works without a restart.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	server := testpostgres.Start(t)
	o := options(t, server.Database())
	a, b := open(t, o), open(t, o)
	f := follow(t, b)
	revoke(t, a, "before")
	f.WaitFor("before")
	epoch := f.Sync()
	server.Stop()
	began := time.Now()
	_, keys := a.Keys()
	_, _, token := a.Token(sum("a"))
	_, sweep := a.Sweep(at(1))
	_, latest := a.LatestIssue(at(1))
	for name, err := range map[string]error{
		"Keys": keys, "Token": token, "Sweep": sweep, "ReplaceKeys": a.ReplaceKeys(nil, nil), "AddToken": a.AddToken(sum("a"), store.Token{}),
		"Revoke": a.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p"}), "LatestIssue": latest,
		"Revocations": a.Revocations(func(store.Revocation) error { return nil }),
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s without the database returned %v, want ErrUnavailable", name, err)
		}
	}
	if took := time.Since(began); took > 8*5*time.Second {
		t.Errorf("8 methods took %s without the database, want at most 5 s for each", took)
	}
	if !gatetest.Within(20*time.Second, func() bool { return errors.Is(b.Current(), store.ErrUnavailable) }) {
		t.Error("Current returns nil 20 s after the database went away")
	}
	server.Restart()
	revoke(t, a, "after")
	f.WaitFor("after")
	f.CheckHeld(b)
	if got := f.Sync(); got != epoch {
		t.Errorf("the pages have the epoch %s after a restart, want %s", got, epoch)
	}
	if err := b.Current(); err != nil {
		t.Errorf("Current returned %v after the database came back, want nil", err)
	}
}

// A failover to a synchronous standby loses no acknowledged revocation, and every process continues
// with the new server.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := testpostgres.Start(t)
	url := primary.Database()
	standby := primary.Standby()
	primary.Configure("synchronous_standby_names=*")
	primary.Exec("postgres", "SELECT pg_reload_conf()")
	if !gatetest.Within(10*time.Second, func() bool {
		return primary.Value("postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
	}) {
		t.Fatal("the standby does not become synchronous")
	}
	url.Hosts = append(standby.URL(url.Database).Hosts, url.Hosts...) // the standby first, which accepts no writes
	o := options(t, url)
	a, b := open(t, o), open(t, o)
	f := follow(t, b)
	for n := range 20 {
		revoke(t, a, fmt.Sprint("before ", n))
	}
	epoch := f.Sync()
	primary.Kill()
	standby.Exec("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_promote()")
	if !gatetest.Within(20*time.Second, func() bool {
		return a.Revoke(store.Revocation{Kind: revocation.Application, Subject: "after"}) == nil
	}) {
		t.Fatal("no revocation is stored 20 s after the failover")
	}
	f.WaitFor("after")
	held := make(map[string]bool)
	if err := a.Revocations(func(r store.Revocation) error { held[r.Subject] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		if subject := fmt.Sprint("before ", n); !held[subject] {
			t.Errorf("the revocation of %s was acknowledged and is lost", subject)
		}
		f.WaitFor(fmt.Sprint("before ", n))
	}
	if got := f.Sync(); got == epoch || got[:36] != epoch[:36] {
		t.Errorf("the pages have the epoch %s before a failover and %s after it, want the same UUID with another timeline", epoch, got)
	}
}

// A copy of the database's disk that is restored has the same epoch and timeline. If the copy has reached higher
// numbers than the issuer has read, the issuer detects the other log by the revocation with the number that was read
// last, on a new connection and on the connection from before the restore.
func TestRestoredDisk(t *testing.T) {
	for name, end := range map[string]string{
		"new connection":    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
		"former connection": "SELECT 1",
	} {
		t.Run(name, func(t *testing.T) {
			server := testpostgres.Shared(t)
			url := server.Database()
			a, b := open(t, options(t, url)), open(t, options(t, url))
			f := follow(t, b)
			for n := range 5 {
				revoke(t, a, fmt.Sprint("lost ", n))
			}
			f.WaitFor("lost 4")
			epoch := f.Sync()
			server.Exec(url.Database, "BEGIN", "LOCK TABLE tallygate.revocations IN ACCESS EXCLUSIVE MODE", "DELETE FROM tallygate.revocations WHERE seq > 2",
				`INSERT INTO tallygate.revocations (kind, subject, seq, client) VALUES (2, 'three', 3, ''), (2, 'four', 4, ''), (2, 'five', 5, ''), (2, 'six', 6, '')`,
				"UPDATE tallygate.revocation_head SET seq = 6", end, "COMMIT")
			f.WaitFor("six")
			f.WaitFor("four")
			if f.Sync() == epoch {
				t.Errorf("the pages have the epoch %s after the restore too, want another", epoch)
			}
		})
	}
}

// A failover to a standby that lacks the last commits uses their sequence numbers again. A follower
// that has read the lost numbers still gets the revocations that are stored under these numbers
// afterwards.
func TestFailoverBehind(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	a := open(t, options(t, url))
	f := follow(t, open(t, options(t, url)))
	for n := range 5 {
		revoke(t, a, fmt.Sprint("lost ", n))
	}
	f.WaitFor("lost 4")
	server.Exec(url.Database, "BEGIN", "DELETE FROM tallygate.revocations WHERE seq > 2", "UPDATE tallygate.revocation_head SET seq = 2",
		`INSERT INTO tallygate.revocations (kind, subject, seq, client) VALUES (2, 'again', 3, '')`, "UPDATE tallygate.revocation_head SET seq = 3", "COMMIT",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	f.WaitFor("again")
}
