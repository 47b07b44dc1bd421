package config

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Database is the PostgreSQL database that several issuers share.
type Database struct {
	URL          DatabaseURL `yaml:"url" schema:"required"`
	PasswordFile Path        `yaml:"password_file"`                    // the password of the user; read for each new connection. Optional.
	Trust        []Path      `yaml:"trust" schema:"nonempty,elements"` // PEM files with anchors for the server's certificate; default: the anchors of the system
	// EncryptionKeys are files with the base64 text of 32 random bytes. The first key encrypts the
	// signing keys in the database, and every key decrypts them.
	EncryptionKeys []Path `yaml:"encryption_keys" schema:"elements"`
	// InsecureSSLMode replaces sslmode=verify-full. The server is then not authenticated.
	InsecureSSLMode SSLMode `yaml:"insecure_sslmode"`
}

// SSLMode is a mode of TLS to PostgreSQL that does not authenticate the server.
type SSLMode string

// The values of [SSLMode].
const (
	SSLRequire SSLMode = "require" // TLS with any certificate
	SSLDisable SSLMode = "disable" // no TLS
)

// UnmarshalText reads a mode.
func (m *SSLMode) UnmarshalText(text []byte) error { return oneOf(m, text, SSLRequire, SSLDisable) }

// DatabaseURL names a PostgreSQL database and its user, without the password:
// postgres://user@host:port,host:port/database, or postgres://user@/database?host=/folder for a Unix
// socket in the folder.
type DatabaseURL struct {
	User     string
	Hosts    []DatabaseHost // at least one
	Database string
}

// DatabaseHost is the address of a server.
type DatabaseHost struct {
	Host string // a name, an IP address, or the absolute path of the folder of a Unix socket
	Port int
}

// The default port of PostgreSQL.
const postgresPort = 5432

var (
	errDatabaseURL      = errors.New("expected postgres://user@host:port/database, with several hosts separated by commas, or postgres://user@/database?host=/folder")
	errDatabasePassword = errors.New("must have no password: write the password into a file, and name the file in password_file")
	errDatabaseOption   = errors.New("must have no parameter except host=/folder: the other settings of database take the place of parameters")
)

// UnmarshalText reads a URL. Errors do not quote the text, which may contain a password.
func (u *DatabaseURL) UnmarshalText(text []byte) error {
	rest, ok := strings.CutPrefix(string(text), "postgres://")
	if !ok {
		rest, ok = strings.CutPrefix(string(text), "postgresql://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, database, slash := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	parameters, err := url.ParseQuery(query)
	switch {
	case !ok || err != nil:
		return errDatabaseURL
	case at >= 0 && strings.Contains(authority[:at], ":"), parameters.Has("password"), parameters.Has("sslpassword"):
		return errDatabasePassword
	case len(parameters) > 1 || len(parameters) == 1 && len(parameters["host"]) != 1:
		return errDatabaseOption
	case at < 1 || !slash:
		return errDatabaseURL
	}
	var parsed DatabaseURL
	var noUser, noDatabase error
	parsed.User, noUser = url.PathUnescape(authority[:at])
	parsed.Database, noDatabase = url.PathUnescape(database)
	hosts := authority[at+1:]
	if noUser != nil || noDatabase != nil || parsed.Database == "" || !isPrintable([]byte(parsed.User)) || !isPrintable([]byte(parsed.Database)) || (hosts == "") != parameters.Has("host") {
		return errDatabaseURL
	}
	if folder := parameters.Get("host"); folder != "" {
		if !filepath.IsAbs(folder) || !isPrintable([]byte(folder)) {
			return errDatabaseURL
		}
		parsed.Hosts = []DatabaseHost{{folder, postgresPort}}
		*u = parsed
		return nil
	}
	for text := range strings.SplitSeq(hosts, ",") {
		h, err := parseDatabaseHost(text)
		if err != nil || slices.Contains(parsed.Hosts, h) {
			return errDatabaseURL
		}
		parsed.Hosts = append(parsed.Hosts, h)
	}
	*u = parsed
	return nil
}

func parseDatabaseHost(text string) (h DatabaseHost, err error) {
	h = DatabaseHost{text, postgresPort}
	if name, port, err := net.SplitHostPort(text); err == nil {
		h.Host = name
		if h.Port, err = strconv.Atoi(port); err != nil || h.Port < 1 || h.Port > 65535 {
			return h, errDatabaseURL
		}
	}
	var host Host
	if err := host.UnmarshalText([]byte(strings.ToLower(strings.Trim(h.Host, "[]")))); err != nil || strings.HasPrefix(string(host), "*") {
		return h, errDatabaseURL
	}
	h.Host = string(host)
	return h, nil
}

// IsZero reports whether u names no database.
func (u DatabaseURL) IsZero() bool { return u.Database == "" }

// String returns u for messages.
func (u DatabaseURL) String() string {
	var hosts []string
	for _, h := range u.Hosts {
		if filepath.IsAbs(h.Host) {
			return "postgres://" + url.PathEscape(u.User) + "@/" + url.PathEscape(u.Database) + "?host=" + h.Host
		}
		hosts = append(hosts, net.JoinHostPort(h.Host, strconv.Itoa(h.Port)))
	}
	return "postgres://" + url.PathEscape(u.User) + "@" + strings.Join(hosts, ",") + "/" + url.PathEscape(u.Database)
}

// usesSocket reports whether u names a Unix socket, to which no TLS is spoken.
func (u DatabaseURL) usesSocket() bool {
	return len(u.Hosts) > 0 && filepath.IsAbs(u.Hosts[0].Host)
}

// state checks where the state is: in a folder or in a database.
func (k *checker) state(own *Issuer) {
	if own.Database == nil {
		k.require("issuer.state", own.State != "")
		return
	}
	if own.State != "" {
		k.fault("issuer.database", "excludes state%s: the state is in a folder or in a database", k.line("issuer.state"))
	}
	const path = "issuer.database"
	d := own.Database
	k.require(path+".url", !d.URL.IsZero())
	k.files(path+".trust", d.Trust)
	notEmpty(k, path+".trust", d.Trust, "trusts nothing; leave it out for the anchors of the system")
	if d.URL.usesSocket() && (d.Trust != nil || d.InsecureSSLMode != "") {
		k.fault(path+".url", "names a Unix socket, to which no TLS is spoken: leave out trust and insecure_sslmode")
	}
	if d.InsecureSSLMode != "" && d.Trust != nil {
		k.fault(path+".insecure_sslmode", "makes trust%s useless: the certificate of the server is not checked", k.line(path+".trust"))
	}
	k.files(path+".encryption_keys", d.EncryptionKeys)
	if len(own.Signing.Files) == 0 {
		k.some(path+".encryption_keys", len(d.EncryptionKeys), "the signing keys in the database must be encrypted")
	}
}
