package gatetest

import (
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
)

// Issuer is the issuer of [AuthorizationServer].
const Issuer = "https://as.example"

// AuthorizationServer returns the settings of a server with the defaults of package config and without
// a key set. edits change the settings in the given order.
func AuthorizationServer(edits ...func(*config.AuthorizationServer)) config.AuthorizationServer {
	s := config.AuthorizationServer{
		Name:       "partners",
		Required:   true,
		Tokens:     config.JWTOnly,
		Issuer:     Issuer,
		Audiences:  []string{"https://api.example", "https://old.example"},
		Algorithms: []config.Algorithm{config.ES256, config.PS256, config.EdDSA},
		Types:      []string{"at+jwt"},
		Leeway:     30 * time.Second,
		KeySet:     config.KeySet{Refresh: 5 * time.Minute, CoolDown: 10 * time.Second, MaxStale: 24 * time.Hour},
		Cache:      config.Cache{Entries: 1000},
	}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

// Algorithms returns an edit that sets the accepted algorithms to list.
func Algorithms(list ...config.Algorithm) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) { s.Algorithms = list }
}

// KeyFile writes document to a file at path. edit makes the file the key set of a server.
func KeyFile(t testing.TB, document []byte) (path string, edit func(*config.AuthorizationServer)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "jwks.json")
	WriteFile(t, path, document)
	return path, func(s *config.AuthorizationServer) { s.KeySet.File = config.Path(path) }
}

// URL parses s.
func URL(t testing.TB, s string) *config.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return &config.URL{URL: *u}
}
