package postgres_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
)

// A secured server wants TLS and a password.
func newSecured(t *testing.T) (server *testpostgres.Server, o postgres.Options, ca *testpki.Pair) {
	t.Helper()
	server = testpostgres.Start(t)
	ca = testpki.NewCA("database CA")
	pair := ca.Leaf("database", testpki.IP("127.0.0.1"), testpki.DNS("db.test"))
	server.Write("server.crt", pair.CertPEM())
	server.Write("server.key", pair.KeyPEM())
	server.Write("data/pg_hba.conf", []byte("local all admin trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"))
	server.Configure("ssl=on", "ssl_cert_file="+filepath.Join(server.Folder(), "server.crt"), "ssl_key_file="+filepath.Join(server.Folder(), "server.key"))
	server.Stop()
	server.Restart()
	url := server.Database()
	server.Exec("postgres", "ALTER ROLE "+url.User+" PASSWORD 'first''secret'")
	o = options(t, url)
	o.Database.InsecureSSLMode = ""
	folder := t.TempDir()
	write(t, filepath.Join(folder, "ca.pem"), string(ca.CertPEM()))
	write(t, filepath.Join(folder, "password"), "first'secret\n")
	o.Database.Trust, o.Database.PasswordFile = []config.Path{config.Path(filepath.Join(folder, "ca.pem"))}, config.Path(filepath.Join(folder, "password"))
	return server, o, ca
}

// tries returns the error of Open.
func tries(o postgres.Options) error {
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		return err
	}
	return s.Close()
}

// By default the server must have a certificate of a trusted authority for its name. Every weaker mode
// is a setting.
func TestTLS(t *testing.T) {
	t.Setenv("PGPASSWORD", "first'secret")
	t.Setenv("PGSSLMODE", "disable")
	_, o, _ := newSecured(t)
	if err := tries(o); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.pem")
	write(t, other, string(testpki.NewCA("other CA").CertPEM()))
	for name, c := range map[string]struct {
		edit func(*config.Database)
		want string // "" for success
	}{
		"another authority": {func(d *config.Database) { d.Trust = []config.Path{config.Path(other)} }, "unknown authority"},
		"the system's":      {func(d *config.Database) { d.Trust = nil }, "unknown authority"},
		"another name": {func(d *config.Database) {
			d.URL.Hosts = []config.DatabaseHost{{Host: "localhost", Port: d.URL.Hosts[0].Port}}
		}, "not localhost"},
		"any certificate":    {func(d *config.Database) { d.Trust, d.InsecureSSLMode = nil, config.SSLRequire }, ""},
		"no TLS":             {func(d *config.Database) { d.InsecureSSLMode = config.SSLDisable }, "no encryption"},
		"no password file":   {func(d *config.Database) { d.PasswordFile = "" }, "password"},
		"no such file":       {func(d *config.Database) { d.PasswordFile = "/nonexistent/password" }, "/nonexistent/password"},
		"no such trust file": {func(d *config.Database) { d.Trust = []config.Path{"/nonexistent/ca.pem"} }, "/nonexistent/ca.pem"},
	} {
		edited := o
		c.edit(&edited.Database)
		err := tries(edited)
		switch {
		case c.want == "" && err == nil:
		case err == nil || c.want == "" || !contains(err.Error(), c.want) || contains(err.Error(), "secret"):
			t.Errorf("%s: Open returned %v, want %q and no secret", name, err, c.want)
		}
	}
}

// The password is read for each new connection, and a wrong password is in no error.
func TestPassword(t *testing.T) {
	t.Parallel()
	server, o, _ := newSecured(t)
	s := open(t, o)
	file := string(o.Database.PasswordFile)
	cut := func() {
		server.Exec("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+o.Database.URL.User+"'")
	}
	server.Exec("postgres", "ALTER ROLE "+o.Database.URL.User+" PASSWORD 'second-secret'")
	if err := s.AddToken(sum("held"), store.Token{}); err != nil {
		t.Errorf("with a connection from before the change AddToken returned %v, want nil", err)
	}
	cut()
	failed := false
	for range 3 {
		err := s.AddToken(sum("lost"), store.Token{})
		if err == nil || !errors.Is(err, store.ErrUnavailable) || contains(err.Error(), "secret") {
			t.Errorf("with the password from before the change AddToken returned %v, want ErrUnavailable", err)
		}
		failed = failed || err != nil
	}
	write(t, file, "second-secret")
	if err := s.AddToken(sum("new"), store.Token{}); err != nil || !failed {
		t.Errorf("after the change of the file AddToken returned %v, want nil", err)
	}
}
