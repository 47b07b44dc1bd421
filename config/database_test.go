package config

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDatabaseURL(t *testing.T) {
	for text, want := range map[string]DatabaseURL{
		"postgres://u@db/d":                      {"u", []DatabaseHost{{"db", 5432}}, "d"},
		"postgresql://u@DB.example:6432/d":       {"u", []DatabaseHost{{"db.example", 6432}}, "d"},
		"postgres://u@db1:1,db2/d":               {"u", []DatabaseHost{{"db1", 1}, {"db2", 5432}}, "d"},
		"postgres://u@[::1]:1,192.0.2.1/d":       {"u", []DatabaseHost{{"::1", 1}, {"192.0.2.1", 5432}}, "d"},
		"postgres://u%40corp@db/d%2Fe":           {"u@corp", []DatabaseHost{{"db", 5432}}, "d/e"},
		"postgres://u@/d?host=/run/postgresql":   {"u", []DatabaseHost{{"/run/postgresql", 5432}}, "d"},
		"postgres://u@/d?host=%2Frun%2Fpostgres": {"u", []DatabaseHost{{"/run/postgres", 5432}}, "d"},
	} {
		var got DatabaseURL
		if err := got.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		var again DatabaseURL
		if err := again.UnmarshalText([]byte(got.String())); err != nil || !cmp.Equal(got, again) {
			t.Errorf("%s: String returned %s, which reads as %+v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]error{
		"postgres://u:s3cret@db/d": errDatabasePassword, "postgres://u:@db/d": errDatabasePassword,
		"postgres://u@db/d?password=s3cret": errDatabasePassword, "postgres://u@/d?host=/r&sslpassword=s3cret": errDatabasePassword,
		"postgres://u@db/d?sslmode=disable": errDatabaseOption, "postgres://u@/d?host=/r&host=/s": errDatabaseOption,
		"postgres://u@db/d?host=/r": errDatabaseURL, "postgres://u@/d?host=r": errDatabaseURL, "postgres://u@/d": errDatabaseURL,
		"": errDatabaseURL, "u@db/d": errDatabaseURL, "http://u@db/d": errDatabaseURL, "postgres://db/d": errDatabaseURL, "postgres://@db/d": errDatabaseURL,
		"postgres://u@db": errDatabaseURL, "postgres://u@db/": errDatabaseURL, "postgres://u@db:0/d": errDatabaseURL, "postgres://u@db:x/d": errDatabaseURL,
		"postgres://u@db,/d": errDatabaseURL, "postgres://u@db,db/d": errDatabaseURL, "postgres://u@*.db/d": errDatabaseURL, "postgres://u@d b/d": errDatabaseURL,
		"postgres://u@db/d%00": errDatabaseURL, "postgres://u%0a@db/d": errDatabaseURL, "postgres://u@db/%zz": errDatabaseURL,
	} {
		var got DatabaseURL
		err := got.UnmarshalText([]byte(text))
		if !errors.Is(err, want) || strings.Contains(err.Error(), "s3cret") || !got.IsZero() {
			t.Errorf("%q: got %+v, %v; want the error %v", text, got, err, want)
		}
	}
}

// The settings for a database, which the example has as comments, are valid, and cannot change while
// the gate runs.
func TestExampleDatabase(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	content := regexp.MustCompile(`(?m)^  state: .*\n`).ReplaceAllString(string(text), "")
	content = regexp.MustCompile(`(?m)^  # database:\n(  #   .*\n)+`).ReplaceAllStringFunc(content, func(block string) string {
		block = strings.Replace(block, "  #   insecure_sslmode: require\n", "", 1) // it excludes trust
		return regexp.MustCompile(`(?m)^  # `).ReplaceAllString(block, "  ")
	})
	c, err := Parse(exampleFile, "", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	d := c.Issuer.Database
	if d == nil || len(d.URL.Hosts) != 2 || d.PasswordFile == "" || len(d.Trust) != 1 || len(d.EncryptionKeys) != 1 {
		t.Fatalf("the database is %+v, want every setting of the example", d)
	}
	for _, secret := range []Path{d.PasswordFile, d.EncryptionKeys[0]} {
		if !strings.Contains(strings.Join(c.Secrets(), "\n"), string(secret)) {
			t.Errorf("Secrets lacks %s", secret)
		}
	}
	next := *c
	issuer, database := *c.Issuer, *d
	database.PasswordFile = "/other"
	issuer.Database, next.Issuer = &database, &issuer
	if err := c.CheckReload(&next); err == nil || !strings.Contains(err.Error(), "issuer.database: cannot change") {
		t.Errorf("CheckReload returned %v, want a fault at issuer.database", err)
	}
}
