package keyring_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/config"
)

// A report counts the warnings about failing refreshes and the messages that refreshes succeed
// again, with the value of the gauge.
type report struct {
	warnings, recoveries int
	gauge                float64
}

// reported returns the report since the last call.
func (b *harness) reported() report {
	defer b.log.Reset()
	count := func(line string) int { return strings.Count(b.log.String(), line) }
	return report{
		count(`"level":"WARN","msg":"signing keys not refreshed","since":`), count(`"level":"INFO","msg":"signing keys refreshed again"`),
		testutil.ToFloat64(b.gauge),
	}
}

// A lasting error is logged when it begins, every hour, and when it is over. The next error is
// logged at once.
func TestLastingFault(t *testing.T) {
	good := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))})
	file := filepath.Join(t.TempDir(), "key.pem")
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	b := newHarness(t, config.Signing{Algorithm: config.ES256, Files: []config.Path{config.Path(file)}})
	b.run(func() {
		for _, step := range []struct {
			name    string
			content []byte
			passes  time.Duration
			want    report
		}{
			{"sound", good, time.Hour, report{0, 0, 1}},
			{"broken", []byte("half a f"), 11 * time.Second, report{1, 0, 0}},
			{"still broken", []byte("half a f"), 3*time.Hour + time.Minute, report{3, 0, 0}},
			{"broken in another way", nil, time.Minute, report{0, 0, 0}},
			{"sound again", good, time.Hour, report{0, 1, 1}},
			{"broken anew", nil, 11 * time.Second, report{1, 0, 0}},
		} {
			write(step.content)
			time.Sleep(step.passes)
			synctest.Wait()
			if got := b.reported(); got != step.want {
				t.Errorf("%s: got %+v, want %+v", step.name, got, step.want)
			}
		}
	})
}
