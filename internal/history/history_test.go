package history

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var begin = time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)

var (
	granted = Key{API: "accounts", Reason: "granted"}
	expired = Key{API: "accounts", Reason: "expired", Outcome: Refused}
)

func described() (subject, issuer string, notAfter time.Time) {
	return "CN=ledger", "CN=Northwind Root", begin.AddDate(1, 0, 0)
}

func TestCountsOfAnHour(t *testing.T) {
	h := New()
	h.Count("northwind", expired, begin)
	for range 3 {
		h.Count("northwind", expired, begin.Add(30*time.Minute))
	}
	h.Count("northwind", granted, begin.Add(30*time.Minute))
	h.Count("borealis", expired, begin.Add(59*time.Minute))
	for _, tt := range []struct {
		after            time.Duration
		northwind, all   int
		granted, lastTen int
	}{
		{59 * time.Minute, 4, 5, 1, 1},
		{60 * time.Minute, 3, 4, 1, 1}, // the first minute is over an hour ago
		{89 * time.Minute, 3, 4, 1, 0},
		{90 * time.Minute, 0, 1, 0, 0},
		{3 * time.Hour, 0, 0, 0, 0},
	} {
		now := begin.Add(tt.after)
		rows, all := h.Rows(now)
		northwind := 0
		for i := range rows {
			if rows[i].Partner == "northwind" {
				northwind += rows[i].Last(Minutes)
			}
		}
		if got := [4]int{northwind, all.Sum(Refused, Minutes), all.Sum(Granted, Minutes), all.Sum(Refused, 10)}; got != [4]int{tt.northwind, tt.all, tt.granted, tt.lastTen} {
			t.Errorf("after %s: northwind, refused, granted and the last ten minutes are %v, want %v", tt.after, got, []int{tt.northwind, tt.all, tt.granted, tt.lastTen})
		}
	}
}

// A clock that steps back must not lose counts or put them into the future.
func TestClockStepsBack(t *testing.T) {
	h := New()
	h.Count("northwind", expired, begin)
	h.Count("northwind", expired, begin.Add(-10*time.Minute))
	if _, all := h.Rows(begin); all.Sum(Refused, 1) != 2 {
		t.Errorf("the present minute has %d refusals, want 2", all.Sum(Refused, 1))
	}
}

func TestSweepMakesRoom(t *testing.T) {
	h := New()
	for i := range maxSeries + 10 {
		h.Count(fmt.Sprintf("p%d", i), expired, begin)
	}
	h.Count("late", expired, begin)
	rows, all := h.Rows(begin)
	if all.Sum(Refused, Minutes) != maxSeries+11 {
		t.Errorf("counted %d requests, want %d: those beyond the bound count under OtherPartners", all.Sum(Refused, Minutes), maxSeries+11)
	}
	if len(rows) != maxSeries+1 {
		t.Errorf("%d series, want %d", len(rows), maxSeries+1)
	}
	h.Sweep(begin.Add(59 * time.Minute))
	if h.series != maxSeries {
		t.Errorf("Sweep within the hour left %d series, want all %d", h.series, maxSeries)
	}
	later := begin.Add(time.Hour)
	h.Sweep(later)
	h.Count("late", expired, later)
	if rows, _ := h.Rows(later); h.series != 1 || len(rows) != 1 || rows[0].Partner != "late" {
		t.Errorf("after the hour there are %d series and the rows %v, want the row of late", h.series, rows)
	}
}

func fields(values ...string) (f []Field) {
	for i := 0; i+1 < len(values); i += 2 {
		f = append(f, Field{values[i], values[i+1]})
	}
	return f
}

func TestRefusalsOfOneKindAreOne(t *testing.T) {
	h := New()
	kind := Kind{Reason: "expired", API: "accounts", ClientID: "ledger"}
	for i := range 1000 {
		h.Refuse("northwind", kind, begin.Add(time.Duration(i)*time.Second), fields("request_id", fmt.Sprint(i)))
	}
	h.Refuse("northwind", Kind{Reason: "bound_to_other"}, begin.Add(time.Hour), fields("request_id", "theft"))
	all := h.Refusals("northwind")
	if len(all) != 2 || all[0].Get("request_id") != "theft" || all[1].Times != 1000 || all[1].Get("request_id") != "999" || !all[1].First.Equal(begin) {
		t.Errorf("the refusals are %+v, want the theft, and 1000 as one with the line of the last", all)
	}
}

// A partner that causes many kinds of refusals displaces only its own kinds.
func TestRefusalsAreBounded(t *testing.T) {
	h := New()
	h.Refuse("quiet", Kind{Reason: "expired"}, begin, nil)
	for i := range 10_000 {
		h.Refuse("loud", Kind{Reason: "expired", ClientID: fmt.Sprint(i)}, begin.Add(time.Second), nil)
	}
	if loud, quiet := len(h.Refusals("loud")), len(h.Refusals("quiet")); loud != refusalsPerPartner || quiet != 1 {
		t.Errorf("loud and quiet have %d and %d refusals, want %d and 1", loud, quiet, refusalsPerPartner)
	}
	for i := range 3 * maxRefusals {
		h.Refuse(fmt.Sprintf("p%d", i), Kind{Reason: "expired"}, begin.Add(time.Duration(2+i)*time.Second), nil)
	}
	all := h.AllRefusals(func(*Refusal) bool { return true })
	if len(all) != maxRefusals || all[0].Partner != fmt.Sprintf("p%d", 3*maxRefusals-1) {
		t.Errorf("%d refusals, the newest of %s, want %d", len(all), all[0].Partner, maxRefusals)
	}
}

// A partner cannot hide the theft of a token behind other refusals that it causes. Thefts replace only thefts.
func TestTheftIsNotPushedOut(t *testing.T) {
	h := New()
	thefts := func() (clients []string) {
		for _, r := range h.Refusals("northwind") {
			if r.Kind.BoundToOther {
				clients = append(clients, r.Kind.ClientID)
			}
		}
		return clients
	}
	other := func(n int) {
		h.Refuse("northwind", Kind{Reason: "path_not_canonical", Route: fmt.Sprint(n)}, begin.Add(time.Duration(n)*time.Second), nil)
	}
	h.Refuse("northwind", Kind{Reason: "bound_to_other", ClientID: "ledger", BoundToOther: true}, begin, nil)
	for n := range 10 * refusalsPerPartner {
		other(n)
	}
	if got := thefts(); !slices.Equal(got, []string{"ledger"}) {
		t.Errorf("after many other refusals the thefts are %q, want that of ledger", got)
	}
	for n := range maxRefusals - 1 { // the last of these replace all refusals of northwind but one
		h.Refuse(fmt.Sprint("p", n), Kind{Reason: "expired"}, begin.Add(time.Hour), nil)
	}
	if got := h.Refusals("northwind"); len(got) != 1 || got[0].Kind.ClientID != "ledger" {
		t.Errorf("after the refusals of other partners northwind has %d refusals, want only the theft", len(got))
	}
	for n := range 2 * refusalsPerPartner {
		h.Refuse("northwind", Kind{Reason: "bound_to_other", ClientID: fmt.Sprint(n), BoundToOther: true}, begin.Add(2*time.Hour), nil)
	}
	if got := thefts(); len(got) != refusalsPerPartner || got[0] != fmt.Sprint(2*refusalsPerPartner-1) || slices.Contains(got, "0") {
		t.Errorf("the thefts are %q, want the last %d", got, refusalsPerPartner)
	}
}

func TestCertificatesAreBounded(t *testing.T) {
	h := New()
	see := func(name string, n int, at time.Time) {
		h.See(name, "ledger", [32]byte{byte(n), byte(n >> 8), byte(n >> 16)}, at, described)
	}
	for n := range 100 {
		see("northwind", n, begin.Add(time.Duration(n)*time.Second))
	}
	got := h.Certificates("northwind")
	if len(got) != certificatesPerPartner || got[0].Thumbprint[0] != 100-certificatesPerPartner {
		t.Errorf("northwind has %d certificates, want the last %d", len(got), certificatesPerPartner)
	}
	for n := range 2 * maxCertificates {
		see(fmt.Sprintf("p%d", n), n, begin)
	}
	see("northwind", 200, begin.Add(time.Hour)) // a partner that has some replaces its oldest
	total := 0
	for name := range h.each() {
		total += len(h.Certificates(name))
	}
	if newest := h.Certificates("northwind"); total != maxCertificates || newest[len(newest)-1].Thumbprint[0] != 200 {
		t.Errorf("%d certificates, want %d with the renewed certificate of northwind", total, maxCertificates)
	}
}

// A field may be a part of the header of a request, which must not stay in memory.
func TestRefusalKeepsNoLargerText(t *testing.T) {
	h := New()
	header := strings.Repeat("x", 1<<20)
	for i := range 200 {
		h.Refuse("northwind", Kind{Reason: "expired", ClientID: fmt.Sprint(i % 20)}, begin, fields("host", strings.Clone(header)[:10]))
	}
	if got := h.Refusals("northwind")[0].Get("host"); got != header[:10] {
		t.Errorf("the host is %q, want %q", got, header[:10])
	}
}

func TestGrantedRequestsAllocateNothing(t *testing.T) {
	h := New()
	sum := [32]byte{1}
	request := func() {
		h.Count("northwind", granted, begin)
		h.See("northwind", "ledger", sum, begin, described)
	}
	request()
	if n := testing.AllocsPerRun(100, request); n != 0 {
		t.Errorf("a granted request allocates %v times, want 0", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	h := New()
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for n := range 300 {
				at, name := begin.Add(time.Duration(n)*time.Minute), fmt.Sprint("p", n%7)
				h.Count(name, expired, at)
				h.Refuse(name, Kind{Reason: "expired", ClientID: fmt.Sprint(n % 31)}, at, fields("request_id", fmt.Sprint(i, n)))
				h.See(name, "ledger", [32]byte{byte(n % 11)}, at, described)
				if n%50 == 0 {
					h.Rows(at)
					h.Activities(at)
					h.Refusals(name)
					h.Certificates(name)
					h.AllRefusals(func(*Refusal) bool { return true })
					h.Sweep(at)
				}
			}
		})
	}
	users.Wait()
	for name := range h.each() {
		seen := make(map[Kind]bool)
		for _, r := range h.Refusals(name) {
			if seen[r.Kind] {
				t.Errorf("%s has the kind %v twice", name, r.Kind)
			}
			seen[r.Kind] = true
		}
	}
}

func BenchmarkGranted(b *testing.B) {
	h := New()
	sum := [32]byte{1}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Count("northwind", granted, begin)
			h.See("northwind", "ledger", sum, begin, described)
		}
	})
}

// TestMemory fills every bound with texts as long as the log allows, and measures what docs/console.md says.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h, long := New(), strings.Repeat("x", 256)
	var line []Field
	for i := range 30 {
		line = append(line, Field{[]string{"subject_dn", "error", "request_id"}[i%3], long[:64+8*(i%25)]})
	}
	for i := range maxSeries {
		h.Count(fmt.Sprint("p", i/2), Key{"accounts", fmt.Sprint(i % 2), Refused}, begin)
	}
	for i := range 2 * maxRefusals {
		h.Refuse(fmt.Sprint("p", i/20), Kind{ClientID: fmt.Sprint(i)}, begin, line)
	}
	for i := range 2 * maxCertificates {
		h.See(fmt.Sprint("p", i/4), "ledger", [32]byte{byte(i), byte(i >> 8)}, begin, func() (string, string, time.Time) {
			return strings.Clone(long[:100]), strings.Clone(long[:100]), begin
		})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 30<<20 {
		t.Errorf("a full history takes %d MiB, want at most 30", grown>>20)
	} else {
		t.Logf("a full history takes %.1f MiB", float64(grown)/(1<<20))
	}
	runtime.KeepAlive(h)
}
