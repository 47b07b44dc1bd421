// Package configcheck examines a configuration for the command check: the files that the configuration
// names, and valid settings that will cause trouble. It decides about no request, and serve does not
// use it.
package configcheck

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// Files returns a fault for each setting whose file cannot be read or has the wrong kind of content. It
// checks each file alone, because cfg may have faults itself. Faults between files, such as a key that
// does not belong to its certificate, are found later, when the gate's state is built.
func Files(cfg *config.Config) config.Faults {
	var faults config.Faults
	type use struct {
		file    string
		content content
	}
	checked := make(map[use]error) // many partners can name one file
	for _, named := range cfg.NamedFiles() {
		u := use{named.File, contentOf(named.Setting)}
		err, known := checked[u]
		if !known {
			err = checkFile(u.file, u.content)
			checked[u] = err
		}
		if err != nil {
			faults = append(faults, config.Fault{Position: cfg.Position(named.Setting), Path: named.Setting, Message: oneLine(err)})
		}
	}
	return faults
}

// oneLine returns the text of err on one line, because the message of a fault has only one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

var (
	errEmpty   = errors.New("the file is empty")
	errNotJSON = errors.New("the file is not a JWK Set: it is not JSON (RFC 7517 section 5)")
)

func checkFile(file string, want content) error {
	if err := filewatch.CheckFiles([]string{file}); err != nil { // a pipe would block the read
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	switch want {
	case authorities:
		_, err = pemfile.ParseAuthorities(file, text)
	case certificates:
		_, err = pemfile.ParseCertificates(file, text)
	case chain:
		_, err = pemfile.ParseChain(file, text)
	case privateKey:
		_, err = pemfile.ParseKey(file, text)
	case keySet:
		if !json.Valid(text) {
			err = fmt.Errorf("%s: %w", file, errNotJSON)
		}
	case other:
		if len(text) == 0 {
			err = fmt.Errorf("%s: %w", file, errEmpty)
		}
	}
	return err
}

// A content is the kind of content that a file must have.
type content int

const (
	other        content = iota // any content that is not empty, such as a secret or a revocation list
	authorities                 // PEM certificates, all of them certificates of authorities
	certificates                // PEM certificates of any kind
	chain                       // PEM certificates; the file may also hold their private key
	privateKey
	keySet // a JWK Set
)

// contents has the kind of content for each file. The key is the end of the path of the file's setting,
// without indices. The first row that matches is used.
var contents = []struct {
	end     string
	content content
}{
	{"listener.client_certificates.trust", authorities},
	{"trusted_proxies.certificates.trust", authorities},
	{"partners.list.trust", authorities},
	{"issuer.resource_servers.trust", authorities},
	{"issuer.operators.trust", authorities},
	{"revocation.authorities", authorities},
	{"revocation.exempt", authorities},
	{".trust", certificates},
	{".directory_trust", certificates},
	{".keys.certificates", certificates},
	{".certificate", chain},
	{".key", privateKey},
	{".key_file", privateKey},
	{"issuer.signing.files", privateKey},
	{".key_set.file", keySet},
}

var index = regexp.MustCompile(`\[\d+\]`)

func contentOf(setting string) content {
	setting = index.ReplaceAllString(setting, "")
	for _, row := range contents {
		if strings.HasSuffix(setting, row.end) {
			return row.content
		}
	}
	return other
}
