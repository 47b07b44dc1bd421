package crl

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// allocated returns how many bytes f allocates, in all goroutines.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// T-ADD-06: four responses of 126 KiB that would decompress to 127 MiB each, endless responses, and responses
// that are expensive to parse are refused with little memory.
func TestListBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	for range 127 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	ca := testpki.NewCA("Root")
	good := handmade(t, ca, time.Now().Add(time.Hour), nil)
	block := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: good}))
	headers := strings.Builder{}
	for i := range 500_000 {
		fmt.Fprintf(&headers, "%x:\n", i)
	}
	zeros := make([]byte, maxBytesHTTP) // once, because the server's allocations count too
	// A buffer that grows by a quarter each time takes 1 + 0.8 + 0.64 + ... = 5 times its last
	// size in all, and the race detector a little more: 4 lists of 8 MiB, 6 times.
	const growing = 4 * 8 * 6
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
		most   int // MiB that four of them may allocate, one after another
	}{
		"gzip": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("the request has Accept-Encoding, want none")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes())
		}, "content encoding", 4},
		"called gzip": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(good)
		}, "content encoding", 4},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(zeros[:64<<10]); err != nil {
					return
				}
			}
		}, "larger than 8 MiB", growing},
		"announced": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(maxBytesHTTP+1))
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "larger than 8 MiB", 4},
		"zeros":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(zeros) }, "malformed", growing},
		"many blocks": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat(block, 10_000)) }, "more than 256 lists", growing},
		"many headers": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Replace(block, "CRL-----\n", "CRL-----\n"+headers.String()+"\n", 1))
		}, "headers", growing},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(c.answer)
			defer s.Close()
			h := newHarness(t, ca)
			for i := range 4 {
				h.at(fmt.Sprint(s.URL, "/", i, ".crl"))
			}
			checker := h.load(nil)
			var err error
			n := allocated(func() { err = checker.FetchAdded(t.Context()) })
			t.Logf("%.1f MiB are allocated: %.150v", float64(n)/(1<<20), err)
			if err == nil || strings.Count(err.Error(), c.want) != 4 {
				t.Errorf("%.1000v, want four times %q", err, c.want)
			}
			if n > c.most<<20+1<<19 {
				t.Errorf("%d MiB are allocated, want %d at most", n>>20, c.most)
			}
		})
	}
}

// T-ADD-06: large lists are read one after another, small lists concurrently.
func TestLargeListsOneByOne(t *testing.T) {
	ca := testpki.NewCA("Root")
	small := handmade(t, ca, time.Now().Add(time.Hour), nil)
	large := handmade(t, ca, time.Now().Add(time.Hour), func(b *cryptobyte.Builder) { addEntries(b, smallList/20) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large.crl" {
			_, _ = w.Write(large)
			return
		}
		_, _ = w.Write(small)
	}))
	defer s.Close()
	h := newHarness(t, ca)
	h.at(s.URL + "/small.crl")
	h.at(s.URL + "/large.crl")
	checker := h.load(nil)
	largeList <- struct{}{} // as if another large list was being read
	done := make(chan error)
	go func() { done <- checker.FetchAdded(t.Context()) }()
	read := checker.sources
	gatetest.Eventually(t, "the small list is read while a large list is read", func() bool { return read[0].current.Load() != nil })
	select {
	case err := <-done:
		t.Errorf("the large list was read beside another: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	<-largeList
	if err := <-done; err != nil || read[1].current.Load() == nil {
		t.Errorf("then the large list is not read: %v", err)
	}
	if len(largeList) > 0 {
		t.Error("the slot for large lists is still taken after the fetch, want it free")
	}
}

// addEntries adds n entries with serial numbers of 4 octets.
func addEntries(b *cryptobyte.Builder, n int) {
	when := time.Now()
	for i := range n {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(int64(1<<24 + i))
			b.AddASN1UTCTime(when)
		})
	}
}

// T-ADD-06: a slow fetch is canceled, and the time that a large list waits for others does not count.
func TestListTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancelCause(t.Context())
		limit := time.AfterFunc(fetchTimeout, func() { end(errSlow) })
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", smallList+1)), readerFunc(func([]byte) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}))
		defer func(others chan struct{}) { largeList = others }(largeList)
		largeList = make(chan struct{}, 1) // a channel of this synctest bubble
		largeList <- struct{}{}
		go func() {
			time.Sleep(time.Hour)
			<-largeList
		}()
		start := time.Now()
		_, _, err := readList(ctx, &http.Response{Body: io.NopCloser(body), ContentLength: -1}, maxBytes, limit)
		if took := time.Since(start); !errors.Is(timeoutError(ctx, err), errSlow) || took != time.Hour+fetchTimeout {
			t.Errorf("%v after %s, want %v after an hour and %s", err, took, errSlow, fetchTimeout)
		}
		if len(largeList) > 0 {
			t.Error("the slot for large lists is still taken after a failure, want it free")
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// T-ADD-06: the entries of all lists of one source are bounded, and so is the size of a file.
func TestListBounds(t *testing.T) {
	ca := testpki.NewCA("Root")
	der := handmade(t, ca, time.Now().Add(time.Hour), func(b *cryptobyte.Builder) { addEntries(b, 10) })
	h := newHarness(t, ca)
	h.file("root.crl")
	if err := os.WriteFile(string(h.path("root.crl")), der, 0o600); err != nil {
		t.Fatal(err)
	}
	r := h.load(nil)
	for most, want := range map[int]error{9: errManyEntries, 10: nil} {
		if _, err := parseList(der, r.authorities, most); !errors.Is(err, want) {
			t.Errorf("10 entries where %d may be: %v, want %v", most, err, want)
		}
	}
	full := make(map[serial]struct{}, maxEntries)
	for i := range maxEntries - 9 {
		full[serial{byte(i >> 16), byte(i >> 8), byte(i)}] = struct{}{}
	}
	first := handmade(t, ca, time.Now().Add(time.Hour), nil)
	known, err := parseList(first, r.authorities, 0)
	if err != nil {
		t.Fatal(err)
	}
	known.revoked = full
	both := append(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: first}), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	if _, err := r.parse(both, []*list{known}); !errors.Is(err, errManyEntries) {
		t.Errorf("entries beyond the bound in two lists: %v, want %v", err, errManyEntries)
	}
	if err := os.Truncate(string(h.path("root.crl")), maxBytes+1); err != nil {
		t.Fatal(err)
	}
	n := allocated(func() { _, err = readListFile(h.path("root.crl")) })
	if err == nil || n > 1<<20 {
		t.Errorf("a file of %d bytes: %v, with %d allocated", maxBytes+1, err, n)
	}
}
