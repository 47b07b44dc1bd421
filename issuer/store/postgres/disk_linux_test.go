package postgres_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store"
)

// With a full disk, writers get an error and store nothing, and reads continue.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		gatetest.SkipOutsideCI(t, "mounting a small disk needs root")
	}
	server := testpostgres.Start(t)
	folder := server.Folder() + "/small"
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=12m"); err != nil {
		gatetest.SkipOutsideCI(t, fmt.Sprint("mounting a small disk: ", err))
	}
	t.Cleanup(func() {
		server.Kill()
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	server.Own(folder)
	url := server.Database()
	server.Exec("postgres", "CREATE TABLESPACE small LOCATION '"+folder+"'", "GRANT CREATE ON TABLESPACE small TO "+url.User, "ALTER ROLE "+url.User+" SET default_tablespace = small")
	s := open(t, options(t, url))
	server.Exec(url.Database, "CREATE TABLE ballast TABLESPACE small AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
	token := store.Token{Expires: at(1), Record: make([]byte, 20_000)}
	_, _ = rand.Read(token.Record) // random bytes are not compressed
	stored := 0
	var err error
	for err == nil && stored < 10_000 {
		if err = s.AddToken(sum(strconv.Itoa(stored)), token); err == nil {
			stored++
		}
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("after %d tokens AddToken returned %v, want ErrUnavailable", stored, err)
	}
	if _, ok, err := s.Token(sum("0")); !ok || err != nil {
		t.Errorf("Token on a full disk returned %t, %v; want true", ok, err)
	}
	if _, ok, err := s.Token(sum(strconv.Itoa(stored))); ok || err != nil {
		t.Errorf("Token of a refused token returned %t, %v; want false", ok, err)
	}
	server.Exec(url.Database, "DROP TABLE ballast", "CHECKPOINT")
	if err := s.AddToken(sum("again"), token); err != nil {
		t.Errorf("AddToken with free space again returned %v, want nil", err)
	}
}
