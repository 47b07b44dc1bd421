package postgres_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store/postgres"
	"github.com/tallygate/tallygate/issuer/store/storetest"
)

func TestMain(m *testing.M) {
	if arguments, ok := os.LookupEnv(childVariable); ok {
		writeUntilKilled(arguments)
	}
	code := run(m)
	os.Exit(code)
}

func run(m *testing.M) int {
	defer testpostgres.Stop()
	if code := m.Run(); code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		slog.New(slog.NewTextHandler(os.Stderr, nil)).Error("goroutines are left", "error", err)
		return 1
	}
	return 0
}

// A logged text is a log that a test reads.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// options returns the options for a database of a test server.
func options(t testing.TB, url config.DatabaseURL) postgres.Options {
	t.Helper()
	return postgres.Options{
		Database: config.Database{URL: url, InsecureSSLMode: config.SSLDisable, EncryptionKeys: []config.Path{encryptionKey(t)}},
		Log:      slog.New(slog.DiscardHandler),
	}
}

// encryptionKey writes a new encryption key and returns its file.
func encryptionKey(t testing.TB) config.Path {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	path := filepath.Join(t.TempDir(), "encryption.key")
	gatetest.WriteFile(t, path, []byte(base64.StdEncoding.EncodeToString(key)+"\n"))
	return config.Path(path)
}

func open(t testing.TB, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func sum(text string) [32]byte { return sha256.Sum256([]byte(text)) }

func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

func TestContract(t *testing.T) {
	server := testpostgres.Shared(t)
	storetest.Run(t, func(t *testing.T) storetest.Store {
		s := open(t, options(t, server.Database()))
		s.PollEvery(20 * time.Millisecond)
		return s
	})
}

func contains(text, part string) bool { return strings.Contains(text, part) }

func write(t testing.TB, file, content string) {
	t.Helper()
	gatetest.WriteFile(t, file, []byte(content))
}
