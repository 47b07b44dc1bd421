// Package gatetest is the kit of the tests of all packages: waiting, logs, files, and the settings of an
// authorization server. Certificates, keys and tokens are in package testpki, an ACME server in package
// testacme.
package gatetest

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
)

// Patience bounds every wait of a test. On an idle machine, the awaited result comes within
// milliseconds.
const Patience = time.Minute

// Eventually waits until holds returns true, and ends the test if holds has not returned true within
// [Patience]. It is for the effects of real sockets, files and processes.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", Patience, what)
		}
		pause = min(pause*5/4, 20*time.Millisecond)
	}
}

// WriteFile writes a file that only its owner can read.
func WriteFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Reason returns the reason in err, or Granted if err is nil. An error that wraps no Denial ends the
// test.
func Reason(t testing.TB, err error) access.Reason {
	t.Helper()
	if err == nil {
		return access.Granted
	}
	var d *access.Denial
	if !errors.As(err, &d) {
		t.Fatalf("error %v wraps no Denial", err)
	}
	return d.Reason
}

// JSON returns the JSON encoding of v. It panics if v cannot be encoded.
func JSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// KeySet returns a key set (RFC 7517 section 5) of keys, which may be any values with a JSON encoding.
func KeySet(keys ...any) []byte { return JSON(map[string]any{"keys": keys}) }
