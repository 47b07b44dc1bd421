package gate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallygate/tallygate/internal/filewatch"
)

// A file that was renamed into place is loaded at once. A file that was written in place is loaded
// after a pause in the writes, or after a longer time if the writes do not pause.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("a")
		r := &reloads{seen: filewatch.Files{file: filewatch.Stat(file)}}
		// waits returns how long it takes until they count, looked at every settle.
		waits := func(each func(i int)) time.Duration {
			began := time.Now()
			for i := range 1000 {
				each(i)
				yes, again := r.settled()
				if yes == again {
					t.Fatalf("settled: %t, again: %t", yes, again)
				}
				if yes {
					r.seen, r.pending = r.seen.Rescan(), nil
					break
				}
				time.Sleep(Debounce)
			}
			return time.Since(began)
		}
		if yes, again := r.settled(); yes || again {
			t.Error("nothing has changed")
		}
		next := filepath.Join(dir, "next")
		if err := os.WriteFile(next, []byte("b"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
		if took := waits(func(int) {}); took != Debounce {
			t.Errorf("another file in its place counts after %s", took)
		}
		write("c")
		if took := waits(func(int) {}); took != filewatch.InPlaceQuietPeriod {
			t.Errorf("a file that was written to counts after %s", took)
		}
		pausing := func(i int) { // with pauses that are shorter
			if i < 20 && i%4 == 0 {
				write(strings.Repeat("d", i+2))
			}
		}
		if took := waits(pausing); took != 16*Debounce+filewatch.InPlaceQuietPeriod {
			t.Errorf("a file that is written to counts after %s", took)
		}
		if took := waits(func(i int) { write(strings.Repeat("e", i+1)) }); took != maxDebounce {
			t.Errorf("a file that is always written to counts after %s", took)
		}
	})
}
