package gatetest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

// A Log collects the output of a logger or of a process. It is safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns the output so far.
func (l *Log) String() string { return string(l.Bytes()) }

// Bytes returns a copy of the output so far.
func (l *Log) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text.Bytes())
}

// Wait waits for a line that contains part and returns the first such line.
func (l *Log) Wait(t testing.TB, part string) (found string) {
	t.Helper()
	Eventually(t, "a log line with "+part, func() bool {
		for line := range strings.Lines(l.String()) {
			if strings.Contains(line, part) {
				found = line
				return true
			}
		}
		return false
	})
	return found
}
