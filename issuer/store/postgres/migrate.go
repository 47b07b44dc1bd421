package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

var errSchema = errors.New("the schema of the database does not suit this program")

// migrationTimeout bounds the migration of the schema, with the wait for another process that migrates.
const migrationTimeout = time.Minute

// A migration is one file: its version and its statements.
type migration struct {
	version int
	sql     string
}

// migrations returns the migrations in the order of their versions 1, 2, 3 and so on, which are the
// first digits of the file names.
func migrations() ([]migration, error) {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, file := range files {
		digits, _, _ := strings.Cut(path.Base(file), "_")
		version, err := strconv.Atoi(digits)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s: want version %d", file, i+1)
		}
		sql, err := fs.ReadFile(migrationFiles, file)
		if err != nil {
			return nil, err
		}
		all = append(all, migration{version, string(sql)})
	}
	return all, nil
}

// migrate brings the schema to the version of this program. Only one process migrates at a time. A
// schema of a later version is an error.
func (s *Store) migrate(ctx context.Context) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, migrationTimeout)
	defer cancel()
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	conn := pooled.Hijack() // because the connection gets a setting and a lock of the session
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return translate(migrate(ctx, conn, all, s.options.Attach))
}

func migrate(ctx context.Context, conn *pgx.Conn, all []migration, attach bool) error {
	if attach {
		return checkVersion(ctx, conn, len(all))
	}
	// The lock is released when the connection is closed.
	for _, statement := range []string{"SET statement_timeout = 0", fmt.Sprintf("SELECT pg_advisory_lock(%d)", migrationLock)} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	version, err := schemaVersion(ctx, conn)
	if err != nil {
		return err
	}
	if version > len(all) {
		return errLater(version, len(all))
	}
	for _, m := range all[version:] {
		if err := m.apply(ctx, conn); err != nil {
			return fmt.Errorf("migrating the schema to version %d: %w", m.version, err)
		}
	}
	return nil
}

// apply applies m and records its version, in one transaction.
func (m migration) apply(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// CREATE SCHEMA IF NOT EXISTS needs the right to create a schema even if the schema exists.
		const versions = `DO $$ BEGIN IF to_regnamespace('tallygate') IS NULL THEN CREATE SCHEMA tallygate; END IF; END $$;
			CREATE TABLE IF NOT EXISTS tallygate.schema_versions (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT clock_timestamp())`
		for _, sql := range []string{versions, m.sql} {
			if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil { // the simple protocol takes several statements
				return err
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO tallygate.schema_versions (version) VALUES ($1)", m.version)
		return err
	})
}

// schemaVersion returns the version of the schema, or 0 if the database is empty.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (version int, err error) {
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('tallygate.schema_versions') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM tallygate.schema_versions").Scan(&version)
	return version, err
}

func checkVersion(ctx context.Context, conn *pgx.Conn, want int) error {
	version, err := schemaVersion(ctx, conn)
	switch {
	case err != nil:
		return err
	case version > want:
		return errLater(version, want)
	case version < want:
		return fmt.Errorf("%w: it has version %d, and this program needs %d; an issuer migrates the schema when it starts", errSchema, version, want)
	}
	return nil
}

func errLater(version, want int) error {
	return fmt.Errorf("%w: it has version %d, and this program knows versions up to %d; a later release has migrated it", errSchema, version, want)
}
