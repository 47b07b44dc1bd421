package demo

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

//go:embed first.yaml
var firstConfig string

// firstLife is the lifetime of the certificates that Init makes: long enough to try the gate, and to
// meet a renewal.
const firstLife = 365 * 24 * time.Hour

// Init writes a first configuration to dir, with certificates for the gate and for two partners, and
// prints what to do next to w. program is the command that starts tallygate. dir must be empty or not
// exist, so Init overwrites nothing.
func Init(w io.Writer, program, dir string) error {
	if err := makeEmpty(dir); err != nil {
		return err
	}
	if err := makePKI(dir, firstLife); err != nil {
		return fmt.Errorf("making the certificates: %w", err)
	}
	listeners, addresses, err := demoListeners()
	if err != nil {
		return err
	}
	for _, l := range listeners {
		_ = l.Close() // only their addresses are needed
	}
	file := filepath.Join(dir, "tallygate.yaml")
	if err := writeConfig(dir, file, firstConfig, addresses); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	next := strings.NewReplacer(
		"TALLYGATE", quoteForShell(program), "FILE", quoteForShell(file), "DIR", quoteForShell(filepath.Clean(dir)),
		"GATE", addresses["partners"], "ISSUER", addresses["issuer"], "ADMIN", addresses["admin"],
		"END", time.Now().Add(firstLife).UTC().Format(time.DateOnly),
	)
	_, err = next.WriteString(w, nextSteps)
	return err
}

const nextSteps = `wrote FILE, and test certificates beside it that are valid until END

Check it, and serve it:

TALLYGATE check --config FILE
TALLYGATE serve --config FILE

Call it from another terminal. Your API is expected at http://127.0.0.1:8080; without it, a granted
request gets 502:

TOKEN=$(TALLYGATE token --metadata https://ISSUER --ca DIR/ca.pem \
  --cert DIR/northwind.pem --key DIR/northwind-key.pem --client-id northwind-ledger)
curl --include --cacert DIR/ca.pem --cert DIR/northwind.pem --key DIR/northwind-key.pem \
  -H "Authorization: Bearer $TOKEN" https://GATE/accounts/7

Refused with bound_to_other, because the token is not that partner's, and why:

curl --include --cacert DIR/ca.pem --cert DIR/borealis.pem --key DIR/borealis-key.pem \
  -H "Authorization: Bearer $TOKEN" https://GATE/accounts/7
echo "$TOKEN" | TALLYGATE explain --config FILE --cert DIR/borealis.pem --token-file - \
  --target https://GATE/accounts/7

The metrics are at http://ADMIN/metrics. The keys of the test authorities were not kept: replace
the certificates by yours before a partner calls.
`

// makeEmpty creates dir unless it exists and is empty.
func makeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the folder: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("reading the folder: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("the folder %s is not empty, and init overwrites nothing: name a new folder", dir)
	}
	return nil
}

// safeInShell matches words that a shell reads as they are.
var safeInShell = regexp.MustCompile(`^[A-Za-z0-9_./@%+=:,-]+$`)

// quoteForShell returns word in quotation marks if a shell would change it.
func quoteForShell(word string) string {
	if safeInShell.MatchString(word) && !strings.HasPrefix(word, "-") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
