package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// maxPasswordFile bounds the password file: 64 KiB, far above the longest password.
const maxPasswordFile = 64 << 10

// poolConfig returns the settings of the connections to d. Environment variables such as PGPASSWORD
// have no effect.
func poolConfig(d *config.Database) (*pgxpool.Config, error) {
	var hosts, ports []string
	for _, h := range d.URL.Hosts {
		hosts, ports = append(hosts, h.Host), append(ports, strconv.Itoa(h.Port))
	}
	mode := "verify-full"
	if d.InsecureSSLMode != "" {
		mode = string(d.InsecureSSLMode)
	}
	var words []string
	for _, pair := range [][2]string{
		{"host", strings.Join(hosts, ",")}, {"port", strings.Join(ports, ",")}, {"user", d.URL.User}, {"dbname", d.URL.Database},
		{"sslmode", mode}, {"sslrootcert", ""}, {"sslcert", ""}, {"sslkey", ""}, {"passfile", os.DevNull}, {"target_session_attrs", "read-write"},
	} {
		words = append(words, pair[0]+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(pair[1])+"'")
	}
	settings, err := pgxpool.ParseConfig(strings.Join(words, " "))
	if err != nil {
		return nil, fmt.Errorf("issuer.database: %w", err)
	}
	if err := setTrust(&settings.ConnConfig.Config, d.Trust); err != nil {
		return nil, err
	}
	c := settings.ConnConfig
	c.Password, c.ConnectTimeout = "", connectTimeout
	c.RuntimeParams = map[string]string{
		"application_name":                    "tallygate",
		"statement_timeout":                   strconv.FormatInt(statementTimeout.Milliseconds(), 10),
		"idle_in_transaction_session_timeout": strconv.FormatInt(callTimeout.Milliseconds(), 10),
	}
	settings.MaxConns = maxConnections
	settings.MaxConnLifetime, settings.MaxConnLifetimeJitter = 30*time.Minute, 5*time.Minute
	settings.MaxConnIdleTime = 5 * time.Minute
	settings.PingTimeout = connectTimeout
	settings.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { return setPassword(c, d.PasswordFile) }
	settings.AfterConnect = makeDurable
	return settings, nil
}

// setTrust sets the trusted anchors for every host: the anchors in files, or without files the
// anchors of the system.
func setTrust(c *pgconn.Config, files []config.Path) error {
	var roots *x509.CertPool // nil: the anchors of the system
	if len(files) > 0 {
		var err error
		if roots, err = pemfile.ReadPool(files); err != nil {
			return fmt.Errorf("issuer.database.trust: %w", err)
		}
	}
	set := func(t *tls.Config) {
		if t != nil {
			t.RootCAs, t.MinVersion = roots, tls.VersionTLS12
		}
	}
	set(c.TLSConfig)
	for _, f := range c.Fallbacks {
		set(f.TLSConfig)
	}
	return nil
}

// setPassword reads the password for a new connection, so that a changed password needs no restart.
func setPassword(c *pgx.ConnConfig, file config.Path) error {
	if file == "" {
		return nil
	}
	f, err := os.Open(string(file))
	if err != nil {
		return fmt.Errorf("issuer.database.password_file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
	switch text := bytes.TrimRight(content, "\r\n"); {
	case err != nil:
		return fmt.Errorf("issuer.database.password_file: %w", err)
	case len(content) > maxPasswordFile, len(text) == 0:
		return fmt.Errorf("issuer.database.password_file: %q must have 1 to %d bytes", file, maxPasswordFile)
	default:
		c.Password = string(text)
	}
	return nil
}

// makeDurable makes commits of a new connection wait for the disk if the server is configured
// otherwise. A stricter value of synchronous_commit, such as remote_apply, stays.
func makeDurable(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')")
	return err
}
