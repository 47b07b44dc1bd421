// Package gatetest is the kit of the tests of all packages: waiting, logs, files, and the settings of an
// authorization server. Certificates, keys and tokens are in package testpki, an ACME server in package
// testacme.
package gatetest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
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
	if !Within(Patience, holds) {
		t.Fatalf("not within %s: %s", Patience, what)
	}
}

// EventuallyEqual waits until get returns want, and ends the test if get has not returned want within
// [Patience].
func EventuallyEqual[T comparable](t testing.TB, what string, want T, get func() T) {
	t.Helper()
	var got T
	if !Within(Patience, func() bool { got = get(); return got == want }) {
		t.Fatalf("%s = %v after %s, want %v", what, got, Patience, want)
	}
}

// Within waits until holds returns true, and reports whether it has returned true within limit. Between
// two calls it pauses for 1 to 20 milliseconds.
func Within(limit time.Duration, holds func() bool) bool {
	pause := time.Millisecond
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			return false
		}
		pause = min(pause*5/4, 20*time.Millisecond)
	}
	return true
}

// SkipOutsideCI skips the test, because the machine lacks what reason says. In CI it ends the test with an
// error instead.
func SkipOutsideCI(t testing.TB, reason any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// NeedPrograms skips the test if a program is not installed. In CI it ends the test with an error instead.
func NeedPrograms(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			SkipOutsideCI(t, err)
		}
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
