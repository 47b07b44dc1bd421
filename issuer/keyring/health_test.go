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

// A telling is how often the log tells that the keys are not refreshed, and that they are
// again, and what the gauge says.
type telling struct {
	faults, ends int
	gauge        float64
}

// told returns what has been told since it was last asked.
func (b *bench) told() telling {
	defer b.log.Reset()
	count := func(line string) int { return strings.Count(b.log.String(), line) }
	return telling{
		count(`"level":"WARN","msg":"signing keys not refreshed","since":`), count(`"level":"INFO","msg":"signing keys refreshed again"`),
		testutil.ToFloat64(b.gauge),
	}
}

// A fault that lasts is told of when it begins, each hour, and when it has ended. The
// next one begins anew.
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
	b := newBench(t, config.Signing{Algorithm: config.ES256, Files: []config.Path{config.Path(file)}})
	b.run(func() {
		for _, step := range []struct {
			name    string
			content []byte
			passes  time.Duration
			want    telling
		}{
			{"sound", good, time.Hour, telling{0, 0, 1}},
			{"broken", []byte("half a f"), 11 * time.Second, telling{1, 0, 0}},
			{"still broken", []byte("half a f"), 3*time.Hour + time.Minute, telling{3, 0, 0}},
			{"broken in another way", nil, time.Minute, telling{0, 0, 0}},
			{"sound again", good, time.Hour, telling{0, 1, 1}},
			{"broken anew", nil, 11 * time.Second, telling{1, 0, 0}},
		} {
			write(step.content)
			time.Sleep(step.passes)
			synctest.Wait()
			if got := b.told(); got != step.want {
				t.Errorf("%s: told %+v, want %+v", step.name, got, step.want)
			}
		}
	})
}
