package docs_test

import (
	"bytes"
	"os"
	"regexp"
	"testing"
)

// The page of public interfaces names every key of the log line of a request.
func TestPublicLogKeys(t *testing.T) {
	page, err := os.ReadFile("public-api.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../proxy/record.go")
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile(`slog\.\w+\("([a-z_]+)"`).FindAllSubmatch(source, -1)
	if len(keys) < 15 { // ten that every line has, and those that depend on the request
		t.Fatalf("got %d keys in proxy/record.go, want at least 15", len(keys))
	}
	for _, m := range keys {
		if !bytes.Contains(page, []byte("`"+string(m[1])+"`")) {
			t.Errorf("public-api.md does not name the key %s", m[1])
		}
	}
}
