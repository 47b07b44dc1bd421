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
	var keys [][][]byte
	for _, file := range []string{"../internal/accesslog/recorder.go", "../internal/accesslog/logline.go", "../internal/certlog/certlog.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, regexp.MustCompile(`slog\.\w+\("([a-z_]+)"`).FindAllSubmatch(source, -1)...)
	}
	if len(keys) < 25 { // twelve keys that every line has, and the keys that depend on the request
		t.Fatalf("got %d keys of the log line of a request, want at least 25", len(keys))
	}
	for _, m := range keys {
		if !bytes.Contains(page, []byte("`"+string(m[1])+"`")) {
			t.Errorf("public-api.md does not name the key %s", m[1])
		}
	}
}
