package gate

import (
	"log/slog"
	"os"
	"testing"

	"github.com/tallygate/tallygate/internal/loadshed"
)

// With too few file descriptors for the configured limits, each listener gets its share of the
// available descriptors, and the log says so.
func TestDescriptors(t *testing.T) {
	g := unopenedGate(t)
	sum := func() (n int) {
		for _, s := range g.servers {
			n += s.Limiter.Max
		}
		return n
	}
	before := sum()
	g.clampToFileLimit(1 << 20)
	if sum() != before {
		t.Errorf("%d connections of %d, with room for all", sum(), before)
	}
	g.log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	g.clampToFileLimit(1024)
	if n := sum(); n > 512 || n < 500 {
		t.Errorf("%d connections with 1024 files, want half at most", n)
	}
	if n := loadshed.FileLimit(); n < 64 {
		t.Errorf("%d files", n)
	}
}
