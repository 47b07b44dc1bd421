package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/loadshed"
)

// T-DOS-02: the gate holds a crowd of idle and of slow connections, and serves other clients
// meanwhile. TALLYGATE_BIG=1 makes it 20,000 idle and 2,000 slow connections, if test and gate may
// open as many files (RLIMIT_NOFILE).
func TestCrowd(t *testing.T) {
	idle, slow := 300, 50
	if os.Getenv("TALLYGATE_BIG") != "" {
		idle, slow = 20_000, 2_000
	} else {
		t.Parallel()
	}
	const (
		room       = 1000 // for other files, good clients and upstreams
		perAddress = 1000
		mostEach   = 18 // KiB: 12 for an idle one, 27 for a slow one
	)
	if most := loadshed.FileLimit() - room; idle+slow > most {
		idle, slow = most*10/11, most/11
		t.Logf("RLIMIT_NOFILE is %d: %d idle and %d slow connections", loadshed.FileLimit(), idle, slow)
	}
	r := newReloading(t)
	r.configure("stall_timeout: 30s", fmt.Sprintf("stall_timeout: 30s, idle_timeout: 10m, header_timeout: 10m, requests: 100, connections: %d, connections_per_address: %d", idle+slow+100, perAddress))
	r.environment = append(r.environment, "GOGC=100") // a collection, after which only live objects count
	r.serve()
	if fewer := r.lines("limits lowered on every listener: the file descriptor limit (RLIMIT_NOFILE) is too low"); len(fewer) > 0 {
		t.Fatalf("the gate takes fewer connections: %v", fewer)
	}
	request := "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer " + r.tokens["good"] + "\r\n"
	memory := func() (resident, kept float64) {
		var values [3]float64
		for i, series := range []string{"process_resident_memory_bytes", "go_memstats_next_gc_bytes", "go_memstats_stack_inuse_bytes"} {
			var err error
			values[i], err = r.metric(series)
			r.check(err)
		}
		// The next collection begins when the heap has grown from its live size at the last collection by
		// this size and the size of the stacks.
		return values[0], (values[1]-values[2])/2 + values[2]
	}
	r.check(r.call([]string{"-cert", "northwind", "-token", "good", "GET", "/accounts/7"}))
	r.check(r.granted(http.StatusOK))
	residentBefore, keptBefore := memory()

	// Every address opens as many as it may, less some for the good clients.
	began := time.Now()
	var crowd [][]*tls.Conn
	var lock sync.Mutex
	var dialing sync.WaitGroup
	defer func() {
		for _, conns := range crowd {
			for _, c := range conns {
				_ = c.NetConn().Close()
			}
		}
	}()
	places := make(chan int, idle+slow)
	for i := range idle + slow {
		places <- i
	}
	close(places)
	for range 16 {
		dialing.Go(func() {
			var mine []*tls.Conn
			for i := range places {
				c, err := r.dialFrom(fmt.Sprintf("127.0.1.%d", 1+i/(perAddress-50)), "northwind", "http/1.1")
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					break
				}
				mine = append(mine, c)
				if i >= idle { // slow
					_, err = io.WriteString(c, request[:40])
				} else if _, err = io.WriteString(c, request+"\r\n"); err == nil {
					err = awaitAnswer(c)
				}
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					break
				}
			}
			lock.Lock()
			defer lock.Unlock()
			crowd = append(crowd, mine)
		})
	}
	dialing.Wait()
	if t.Failed() {
		return
	}
	r.check(r.expect(`tallygate_connections_active{listener="partners"}`, float64(idle+slow)))
	opened := time.Since(began)
	residentAfter, _ := memory()
	each := func(before, after float64) float64 { return (after - before) / 1024 / float64(idle+slow) }

	// The slow clients continue, byte by byte, while good clients connect, each with a new connection.
	stop := make(chan struct{})
	var dripping, visiting sync.WaitGroup
	dripping.Go(func() {
		for {
			for _, conns := range crowd {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				_, _ = io.WriteString(conns[len(conns)-1], "a")
			}
		}
	})
	var longest atomic.Int64
	const visitors, visits = 4, 100
	for range visitors {
		visiting.Go(func() {
			transport := &http.Transport{TLSClientConfig: r.client("northwind", "http/1.1"), DisableKeepAlives: true}
			for range visits {
				start := time.Now()
				if _, err := (&drained{r}).visit(transport); err != nil {
					t.Errorf("a good client: %v", err)
					return
				}
				if took := int64(time.Since(start)); took > longest.Load() {
					longest.Store(took)
				}
			}
		})
	}
	visiting.Wait()
	close(stop)
	dripping.Wait()
	// A while later the idle ones have left net/http, and their buffers are garbage.
	var residentIdle, kept float64
	most := mostEach + 1024/float64(idle+slow)    // a collection runs during a scrape, whose text takes up to 1 MiB
	if !gatetest.Within(2*patience, func() bool { // each scrape makes garbage, so that the collector runs
		var after float64
		residentIdle, after = memory()
		kept = each(keptBefore, after)
		return kept < most
	}) {
		t.Fatalf("each connection takes %.1f KiB of heap and stacks, want less than %.1f", kept, most)
	}
	t.Logf("%d idle and %d slow connections, opened in %s: resident memory from %.1f to %.1f MiB and down to %.1f, %.1f KiB for each, of which %.1f KiB live in heap and stacks; %d good clients, each with its own handshake, the slowest served in %s",
		idle, slow, opened.Round(time.Millisecond), residentBefore/(1<<20), residentAfter/(1<<20), residentIdle/(1<<20), each(residentBefore, residentIdle), kept,
		visitors*visits, time.Duration(longest.Load()).Round(time.Millisecond))
	r.check(r.expect(`tallygate_connections_active{listener="partners"}`, float64(idle+slow)))
	for _, conns := range crowd {
		for _, c := range conns {
			_ = c.NetConn().Close()
		}
	}
	r.check(r.expect(`tallygate_connections_active{listener="partners"}`, 0))
	r.check(r.stop())
}

// awaitAnswer reads a response, which is small enough to arrive at once.
func awaitAnswer(c *tls.Conn) error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := c.Read(make([]byte, 4<<10))
	return err
}
