package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/config"
)

// CheckFiles returns the first error of the files that d names. It opens no connection.
func CheckFiles(d *config.Database) error {
	if d == nil {
		return nil
	}
	if _, err := poolConfig(d); err != nil {
		return err
	}
	_, err := newSealer(d.EncryptionKeys)
	return err
}

// Check returns nil if a store can be opened with o: the database accepts writes, its schema is empty
// or of a version that this program knows, and the encryption keys decrypt the signing keys. Check
// changes nothing.
func Check(ctx context.Context, o Options) error {
	settings, err := poolConfig(&o.Database)
	if err != nil {
		return err
	}
	seal, err := newSealer(o.Database.EncryptionKeys)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := check(ctx, settings.ConnConfig, &o, seal); err != nil {
		return fmt.Errorf("issuer.database: %s: %w", o.Database.URL, err)
	}
	return nil
}

func check(ctx context.Context, settings *pgx.ConnConfig, o *Options, seal sealer) error {
	if err := setPassword(settings, o.Database.PasswordFile); err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, settings)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	all, err := migrations()
	if err != nil {
		return err
	}
	version, err := schemaVersion(ctx, conn)
	switch {
	case err != nil:
		return err
	case version > len(all):
		return errLater(version, len(all))
	case version == 0: // a new database, which the first start migrates
		return nil
	}
	keys, err := readKeys(ctx, conn)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if _, err := seal.open(k.ID, k.sealed); err != nil {
			return err
		}
	}
	return nil
}
