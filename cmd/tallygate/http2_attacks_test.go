package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// stressFor is how long each attack with random timing lasts. TALLYGATE_STRESS sets it, as
// in TALLYGATE_STRESS=2m.
func stressFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TALLYGATE_STRESS")
	if text == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// serveBoth starts a gate with an issuer beside the partners' listener.
func (r *reloading) serveBoth(edits ...string) {
	r.t.Helper()
	r.configureBoth(edits...)
	r.serve()
}

// configureBoth writes the configuration of a gate with an issuer of its own.
func (r *reloading) configureBoth(edits ...string) {
	r.t.Helper()
	r.configure(append([]string{
		"authorization_servers:\n", "authorization_servers:\n  - {name: own, issuer: \"https://own.example.test\", audiences: [https://api.example.test]}\n",
		"admin: {", "issuer: {issuer: \"https://own.example.test\", address: \"127.0.0.1:0\", state: state, audience: https://api.example.test}\nadmin: {",
	}, edits...)...)
}

// An attacker sends requests to a listener over HTTP/2, as many at once as allowed.
type attacker struct {
	listener, certificate string // "" for no certificate
	header                []string
}

// attackers are a partner and a client without credentials at the partners' listener, and the same
// two at the issuer's.
func (r *reloading) attackers() map[string]attacker {
	return map[string]attacker{
		"partner":                 {gate.PartnersListener, "northwind", r.good("GET")},
		"no certificate":          {gate.PartnersListener, "", r.good("GET")[:8]},
		"no certificate, issuer":  {gate.IssuerListener, "", []string{":method", "GET", ":scheme", "https", ":authority", "own.example.test", ":path", "/jwks"}},
		"partner, token endpoint": {gate.IssuerListener, "northwind", []string{":method", "POST", ":scheme", "https", ":authority", "own.example.test", ":path", "/token"}},
	}
}

// attack runs the given number of clients until the time is over, each on its own connections. Before each
// request a client calls beside, which may send other frames.
func (r *reloading) attack(a attacker, clients int, until time.Time, beside func(c *rawClient, stream uint32)) (attacking *sync.WaitGroup) {
	attacking = new(sync.WaitGroup)
	for range clients {
		attacking.Go(func() {
			for time.Now().Before(until) {
				if !r.flood(a, until, beside) {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	return attacking
}

// flood sends requests on one connection until the connection or the time ends, and reports whether
// it connected.
func (r *reloading) flood(a attacker, until time.Time, beside func(c *rawClient, stream uint32)) bool {
	c, err := r.dialRaw(a.listener, a.certificate)
	if err != nil {
		return false
	}
	defer func() { _ = c.conn.Close() }()
	_ = c.conn.SetDeadline(until.Add(patience))
	ended := make(chan struct{}, 100) // streams at once; the gate allows 128
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			frame, err := c.frames.ReadFrame()
			if err != nil {
				return
			}
			_, reset := frame.(*http2.RSTStreamFrame)
			if h := frame.Header(); reset || h.StreamID > 0 && h.Flags.Has(http2.FlagDataEndStream) {
				select {
				case <-ended:
				default:
				}
			}
		}
	}()
	defer func() {
		_ = c.conn.Close()
		<-gone
	}()
	for stream := uint32(1); time.Now().Before(until); stream += 2 {
		beside(c, stream)
		select {
		case ended <- struct{}{}:
		case <-gone:
			return true
		case <-time.After(50 * time.Millisecond): // a stream that the client has reset sends no more frames
			for len(ended) > 0 {
				<-ended
			}
		}
		if c.send(stream, true, a.header...) != nil {
			return true
		}
	}
	return true
}

// survives fails the test if the gate has ended, if the race detector has reported a race, or if another
// request is not served soon.
func (r *reloading) survives(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.exited:
		r.exited <- err
		t.Fatalf("the gate ended: %v\n%.4000s", err, fatal(r.log.Bytes()))
	default:
	}
	if found := fatal(r.log.Bytes()); found != nil {
		t.Fatalf("the gate says\n%.4000s", found)
	}
	ask, _ := r.visitor("northwind", "good", true, 0)
	var v visit
	var err error
	if !gatetest.Within(recovery, func() bool { // 503 overloaded, as long as the attack's memory is in use
		v, err = ask()
		return err == nil && v.status == http.StatusOK
	}) {
		t.Fatalf("another request got %+v, %v, want 200 within %s", v, err, recovery)
	}
}

// fatal returns the log from the first report of Go's runtime on, or nil.
func fatal(log []byte) []byte {
	for _, sign := range []string{"fatal error: ", "WARNING: DATA RACE", "panic: ", `"msg":"panic"`} {
		if i := bytes.Index(log, []byte(sign)); i >= 0 {
			return log[i:]
		}
	}
	return nil
}

// T-ADD-01: a client that changes SETTINGS_HEADER_TABLE_SIZE while responses are written must not
// end the process. In net/http of Go 1.26.8 and older, a goroutine changes the table of header
// compression while another one uses it.
func TestHTTP2TableSize(t *testing.T) {
	r := newReloading(t)
	r.serveBoth()
	for name, a := range r.attackers() {
		t.Run(name, func(t *testing.T) {
			until := time.Now().Add(stressFor(t) / 4)
			attacking := r.attack(a, 4, until, func(c *rawClient, stream uint32) {
				if stream%8 == 1 {
					_ = c.frames.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
					_ = c.frames.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 4096})
				}
			})
			attacking.Wait()
			r.survives(t)
		})
	}
	r.check(r.stop())
}

// T-ADD-02: streams that are reset while informational responses, headers and trailers are written
// must not end the process. net/http may still read the header map after WriteHeader has returned
// (golang/go#67940).
func TestHTTP2Resets(t *testing.T) {
	hints := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			for i := range 12 {
				w.Header().Set(fmt.Sprintf("Hint-%d", i), strings.Repeat("x", 40))
			}
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Set("Trailer", "Checksum, Signature")
		_, _ = w.Write([]byte("answer"))
		w.Header().Set("Checksum", "abc")
		w.Header().Set("Signature", "def")
		for i := range 12 {
			w.Header().Set(fmt.Sprintf("%sLate-%d", http.TrailerPrefix, i), strings.Repeat("x", 40))
		}
	}))
	defer hints.Close()
	r := newReloading(t)
	r.serveBoth(`"`+r.upstream.url()+`", timeout: 30s`, `"`+hints.URL+`", timeout: 30s`)
	r.hinted(t)
	until := time.Now().Add(stressFor(t))
	var attacks []*sync.WaitGroup
	for _, a := range r.attackers() {
		attacks = append(attacks, r.attack(a, 2, until, func(c *rawClient, stream uint32) {
			if stream > 1 {
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				_ = c.frames.WriteRSTStream(stream-2, http2.ErrCodeCancel)
			}
		}))
	}
	for _, attacking := range attacks {
		attacking.Wait()
	}
	r.survives(t)
	r.check(r.stop())
}

// hinted sends a request and checks the fields of its three informational responses.
func (r *reloading) hinted(t *testing.T) {
	t.Helper()
	c := r.rawClient(t)
	r.check(c.send(1, true, r.good("GET")...))
	for _, want := range []string{"103", "103", "103", "200"} {
		for {
			frame, err := c.frames.ReadFrame()
			r.check(err)
			h, ok := frame.(*http2.MetaHeadersFrame)
			if !ok {
				continue
			}
			hints, length := 0, false
			for _, field := range h.RegularFields() {
				if strings.HasPrefix(field.Name, "hint-") {
					hints++
				}
				length = length || field.Name == "content-length"
			}
			if got := h.PseudoValue("status"); got != want || want == "103" && (hints != 12 || length) {
				t.Fatalf("%s with %d hints, content-length %v; want %s with 12 and none", got, hints, length, want)
			}
			break
		}
	}
}
