//go:build fleet

package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/revocation"
)

// A subscription is a connection to a feed, like the connection of a sidecar.
type subscription struct {
	conn     net.Conn
	position string // the id of the last event
	bytes    int64
}

// subscribe connects to a feed, and returns when the feed says that there is no more.
func (f *fleet) subscribe(address, position string) (*subscription, error) {
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: testpki.Pool(f.pairs["gate"]), Certificates: []tls.Certificate{f.pairs["sidecar"].TLS()}})
	if err != nil {
		return nil, err
	}
	s := &subscription{conn: conn}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Minute))
	last := ""
	if position != "" {
		last = "Last-Event-ID: " + position + "\r\n"
	}
	if _, err := fmt.Fprintf(conn, "GET /revocations?client_id=fleet HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n%s\r\n", f.entrance.address(), last); err != nil {
		return s, err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), nil) //nolint:bodyclose // the body is the stream, and ends with conn
	if err != nil {
		return s, err
	}
	if response.StatusCode != http.StatusOK {
		return s, fmt.Errorf("the feed answers with %s", response.Status)
	}
	return s, s.read(response.Body)
}

// read reads events until the feed says that there is no more.
func (s *subscription) read(body io.Reader) error {
	lines := bufio.NewReaderSize(body, 4<<10)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		s.bytes += int64(len(line))
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			s.position = strings.TrimSpace(id)
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || len(data) > 4<<10 { // longer messages have revocations
			continue
		}
		var batch revocation.Batch
		_, claims, _ := strings.Cut(data, ".")
		claims, _, _ = strings.Cut(claims, ".")
		text, err := base64.RawURLEncoding.DecodeString(claims)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &batch); err != nil {
			return err
		}
		if batch.After == batch.Seq && batch.Snapshot == 0 && len(batch.Entries) == 0 {
			return nil
		}
	}
}

// TestFleetStorm measures what one issuer does for many sidecars with many revocations, and what one sidecar takes.
func TestFleetStorm(t *testing.T) {
	const subscribers = 2000
	for _, revocations := range []int{1_000, 1_000_000} {
		t.Run(strconv.Itoa(revocations), func(t *testing.T) {
			server := testpostgres.Start(t, "shared_buffers=256MB", "max_wal_size=2GB")
			database := server.Database()
			f := newFleetOn(t, 0, database)
			f.program = plainBinary(t) // the race detector would take the memory
			for _, i := range f.issuers {
				i.kill()
			}
			server.Exec(database.Database, fmt.Sprintf("INSERT INTO tallygate.revocations (kind, subject, seq, client, until) SELECT 1, sha256(i::text::bytea), i, '', now() + interval '1 hour' FROM generate_series(1, %d) i", revocations),
				fmt.Sprintf("UPDATE tallygate.revocation_head SET seq = %d", revocations))
			began := time.Now()
			issuer := f.issuers[0]
			f.startSlowly(issuer, "issuer-0.yaml")
			var first *subscription
			var err error
			if !gatetest.Within(5*time.Minute, func() bool { // the feed answers with 503 until the issuer has read the log
				first, err = f.subscribe(issuer.issuerAddress, "")
				return err == nil
			}) {
				t.Fatal(err)
			}
			t.Logf("issuer: start and first snapshot of %d revocations: %s; %d bytes, %.1f for each; %s", revocations, time.Since(began).Round(time.Millisecond), first.bytes,
				float64(first.bytes)/float64(revocations), issuer.usage())
			_ = first.conn.Close()
			before := issuer.cpuTime()
			again, err := f.subscribe(issuer.issuerAddress, "")
			f.check(err)
			t.Logf("issuer: a second snapshot takes %s of CPU time", (issuer.cpuTime() - before).Round(time.Millisecond))
			_ = again.conn.Close()

			f.storm(issuer, "with their positions", first.position, subscribers)
			if revocations <= 1000 {
				f.storm(issuer, "without a position, each with a snapshot", "", subscribers)
			}
			f.sidecarOf(revocations)
		})
	}
}

// startSlowly starts an issuer that first reads a long log.
func (f *fleet) startSlowly(s *stateful, file string) {
	f.t.Helper()
	if err := s.start(f.program, filepath.Join(f.dir, file)); err == nil {
		return
	}
	if !gatetest.Within(5*time.Minute, func() bool {
		for _, line := range s.lines("listening") {
			s.addresses[line["listener"].(string)] = line["address"].(string)
		}
		return s.addresses["admin"] != ""
	}) {
		f.t.Fatalf("the issuer does not listen:\n%s", s.log.Bytes())
	}
}

// storm opens many subscriptions at once, and measures the time until each subscriber has every revocation
// and a heartbeat.
func (f *fleet) storm(issuer *stateful, what, position string, number int) {
	f.t.Helper()
	all := make([]*subscription, number)
	took := make([]time.Duration, number)
	before, began := issuer.cpuTime(), time.Now()
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			var err error
			if all[i], err = f.subscribe(issuer.issuerAddress, position); err != nil {
				f.t.Error(err)
			}
			took[i] = time.Since(began)
		})
	}
	group.Wait()
	f.t.Logf("storm: %d subscribers %s: all synced after %s, %s of the issuer's CPU time; %s", number, what, time.Since(began).Round(time.Millisecond),
		(issuer.cpuTime() - before).Round(time.Millisecond), issuer.usage())
	before, began = issuer.cpuTime(), time.Now()
	time.Sleep(5 * time.Second)
	f.t.Logf("rest: %d subscribers take %.1f %% of a core", number, 100*(issuer.cpuTime()-before).Seconds()/time.Since(began).Seconds())
	for _, s := range all {
		if s != nil {
			_ = s.conn.Close()
		}
	}
	gatetest.Within(patience, func() bool {
		open, err := issuer.metric("tallygate_issuer_revocation_subscribers")
		return err == nil && open == 0
	})
}

// sidecarOf measures a sidecar that starts from a snapshot, and again from its state on disk.
func (f *fleet) sidecarOf(revocations int) {
	f.t.Helper()
	began := time.Now()
	s := f.addSidecar("max_staleness: 30s", "state: state-big")
	ready := func() bool { return s.ready() == http.StatusOK }
	if !gatetest.Within(5*time.Minute, ready) {
		f.t.Fatalf("the sidecar is not ready: %s", s.log.Bytes())
	}
	f.t.Logf("sidecar: ready with a snapshot of %d revocations after %s; %s, CPU time %s", revocations, time.Since(began).Round(time.Millisecond), s.usage(), s.cpuTime().Round(time.Millisecond))
	f.check(s.stop())
	if about, err := os.Stat(filepath.Join(f.dir, "state-big", "revocations")); err == nil {
		f.t.Logf("sidecar: the state on disk has %d bytes, %.1f for each revocation", about.Size(), float64(about.Size())/float64(revocations))
	}
	began = time.Now()
	f.startSidecar(s)
	if !gatetest.Within(5*time.Minute, ready) {
		f.t.Fatalf("the sidecar is not ready: %s", s.log.Bytes())
	}
	f.t.Logf("sidecar: ready from its state on disk after %s; %s, CPU time %s", time.Since(began).Round(time.Millisecond), s.usage(), s.cpuTime().Round(time.Millisecond))
}

// usage describes the memory of the process.
func (s *stateful) usage() string {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	s.check(err)
	mib := func(key string) int {
		_, rest, _ := strings.Cut(string(text), key+":")
		fields := strings.Fields(rest)
		kib, _ := strconv.Atoi(fields[0])
		return kib >> 10
	}
	return fmt.Sprintf("%d MiB resident, %d at most", mib("VmRSS"), mib("VmHWM"))
}

// cpuTime returns the CPU time of the process, to 10 ms (proc(5)).
func (s *stateful) cpuTime() time.Duration {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	s.check(err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')'):]))
	user, _ := strconv.Atoi(fields[12])
	system, _ := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond
}
