package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/issuer"
)

// revoke revokes x at the issuer with a number and returns when the revocation is acknowledged. A token is revoked by
// its application (RFC 7009), and any other target by an operator over mutual TLS.
func (f *fleet) revoke(x *target, number int) error {
	if x.kind == "token" {
		client := f.clientOf(x.certificate)
		defer client.CloseIdleConnections()
		if status, answer := f.issuers[number].post(client, "/revoke", url.Values{"client_id": {x.clientID}, "token": {x.token}}); status != http.StatusOK {
			return fmt.Errorf("revoking %s: status %d, %v", x.name, status, answer)
		}
		return nil
	}
	body, err := json.Marshal(map[string]issuer.RevocationRequest{
		"application": {Application: x.clientID}, "partner": {Partner: x.partner}, "certificate": {Thumbprint: x.certificate.Thumbprint()},
	}[x.kind])
	if err != nil {
		return err
	}
	response, err := f.operator.Post("https://"+f.issuers[number].issuerAddress+"/operator/revocations", "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("revoking %s: %w", x.name, err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("revoking %s: %s %s %w", x.name, response.Status, text, err)
	}
	return nil
}

// Tokens, applications, partners and certificates are revoked at two issuers in turn. After each
// acknowledgement every sidecar refuses the revoked target, and its upstream gets no request. TALLYGATE_FLEET
// has the number of sidecars and of revocations, as in 50,1000.
func TestFleet(t *testing.T) {
	sidecars, revocations := fleetSize(t)
	f := newFleet(t, revocations)
	for range sidecars {
		f.addSidecar("max_staleness: 30s")
	}
	f.awaitReady()
	f.fetchAll()
	spared := &f.targets[len(f.targets)-1]
	f.prime(spared)
	var took []time.Duration
	for i := range revocations {
		x := &f.targets[i]
		f.prime(x)
		if err := f.revoke(x, i%len(f.issuers)); err != nil {
			t.Fatal(err)
		}
		took = append(took, f.refusedByAll(x, time.Now())...)
		if t.Failed() {
			t.Fatal("the first fault ends the test")
		}
	}
	f.prime(spared) // what was not revoked stays granted
	f.allRefused(revocations)
	slices.Sort(took)
	at := func(part float64) time.Duration {
		return took[int(part*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%d revocations at %d issuers, %d sidecars: from the acknowledgement to the refusal p50 %s, p99 %s, longest %s", revocations, len(f.issuers),
		sidecars, at(0.5), at(0.99), at(1))
	t.Log(f.propagation())
	if file := os.Getenv("TALLYGATE_FLEET_PICTURE"); file != "" && !t.Failed() {
		note := fmt.Sprintf("%d revocations at %d issuers with one PostgreSQL database, %d sidecars, all on one machine with %d cores, %s", revocations,
			len(f.issuers), sidecars, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
		f.check(os.WriteFile(file, drawTimes(took, note), 0o644))
	}
	for _, s := range f.sidecars {
		f.check(s.stop())
	}
}

// fleetSize returns the numbers of sidecars and of revocations.
func fleetSize(t *testing.T) (sidecars, revocations int) {
	t.Helper()
	text := os.Getenv("TALLYGATE_FLEET")
	if text == "" {
		return 3, 40
	}
	if _, err := fmt.Sscanf(text, "%d,%d", &sidecars, &revocations); err != nil {
		t.Fatalf("TALLYGATE_FLEET=%s: %v", text, err)
	}
	return sidecars, revocations
}

// allRefused demands that every sidecar refuses each of the first targets again.
func (f *fleet) allRefused(number int) {
	f.t.Helper()
	f.eachSidecar(func(s *sidecar) {
		for i := range number {
			x := &f.targets[i]
			if fault := s.notRefused(f, x); fault != "" {
				f.t.Errorf("revoked before: %s", fault)
			}
			s.hangUp(x)
		}
	})
}

// propagation describes the histograms tallygate_revocation_propagation_seconds of all sidecars: the time from the
// moment when the issuer stored a revocation until the sidecar applied it.
func (f *fleet) propagation() string {
	f.t.Helper()
	buckets := map[float64]float64{} // counts by upper bound
	total, sum := 0.0, 0.0
	const name = "tallygate_revocation_propagation_seconds_"
	for _, s := range f.sidecars {
		_, text, err := s.admin("/metrics")
		f.check(err)
		for line := range strings.Lines(string(text)) {
			series, number, _ := strings.Cut(strings.TrimSpace(line), " ")
			value, _ := strconv.ParseFloat(number, 64)
			switch series, found := strings.CutPrefix(series, name); {
			case !found:
			case series == "count":
				total += value
			case series == "sum":
				sum += value
			default:
				bound, _ := strconv.ParseFloat(strings.Trim(strings.TrimPrefix(series, "bucket{le="), `"}`), 64)
				buckets[bound] += value
			}
		}
	}
	if total == 0 {
		return "no propagation was measured"
	}
	below := func(part float64) string {
		for _, bound := range slices.Sorted(maps.Keys(buckets)) {
			if buckets[bound] >= part*total {
				return fmt.Sprintf("at most %g s", bound)
			}
		}
		return "above all buckets"
	}
	return fmt.Sprintf("tallygate_revocation_propagation_seconds of all sidecars: %.0f events, mean %.4f s, p50 %s, p99 %s, p99.9 %s", total, sum/total, below(0.5), below(0.99), below(0.999))
}
