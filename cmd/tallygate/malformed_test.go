package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// catalogueTarget stands in the catalogue's bytes for the targets of deliveries, which have its length.
const (
	catalogueTarget = "/accounts/c00000"
	catalogueHost   = "api.example.test"
)

// A delivery is a request of the catalogue that is sent once, with a target of its own.
type delivery struct {
	smuggling.Request

	target, next string
	first        string // sent before it, on the same connection
	bytewise     bool
}

// deliveries returns the requests of the catalogue that keep accepts, each with the ways to send it that
// ways returns.
func deliveries(host, fields string, keep func(smuggling.Request) bool, ways func(n int) []delivery) (all []delivery) {
	for n, request := range smuggling.Requests(catalogueTarget, host, fields) {
		if !keep(request) {
			continue
		}
		for _, d := range ways(n) {
			d.target = fmt.Sprintf("/accounts/c%05d", len(all))
			own := func(text string) string { return strings.ReplaceAll(text, catalogueTarget, d.target) }
			d.Request = request
			d.Bytes, d.next = own(request.Bytes), own(smuggling.Next(catalogueTarget, host, fields))
			d.Messages = slices.Clone(request.Messages)
			for i, m := range d.Messages {
				target := strings.TrimPrefix(own(m.Target), "https://"+host) // a target in absolute-form
				d.Messages[i] = smuggling.Message{Method: m.Method, Target: target, Body: own(m.Body)}
			}
			all = append(all, d)
		}
	}
	return all
}

// sendAll sends the deliveries over connections from dial, several at a time, and calls check with all
// received bytes.
func sendAll(t *testing.T, all []delivery, dial func() (net.Conn, error), fields string, check func(d delivery, answers string)) {
	t.Helper()
	var sending sync.WaitGroup
	queue := make(chan delivery)
	for range 4 {
		sending.Go(func() {
			for d := range queue {
				conn, err := dial()
				if err != nil {
					t.Error(err)
					continue
				}
				check(d, exchangeOf(t, conn, d.first, d.Bytes+d.next, d.bytewise, fields))
			}
		})
	}
	for _, d := range all {
		queue <- d
	}
	close(queue)
	sending.Wait()
}

func isRefused(r smuggling.Request) bool { return r.Fault != smuggling.Valid }

// statusLine finds the statuses of answers. The bodies of answers contain no status line.
var statusLine = regexp.MustCompile(`HTTP/1\.[01] (\d{3}) `)

// statuses returns the statuses of all final answers.
func statuses(answers string) (found []string) {
	for _, m := range statusLine.FindAllStringSubmatch(answers, -1) {
		if m[1] != "100" {
			found = append(found, m[1])
		}
	}
	return found
}

// wanted returns the statuses of the answers to d. If may is true, the request that follows d may be
// answered, or the connection may end before it.
func (d delivery) wanted() (want []string, may bool) {
	for range d.Messages {
		want = append(want, "200")
	}
	if d.Fault != smuggling.Valid {
		return append(want, "400"), false
	}
	want[len(want)-1] = fmt.Sprint(d.Status)
	if d.Status == http.StatusOK && !d.Closes {
		want = append(want, "200")
	}
	return want, d.Status != http.StatusOK
}

// A messageReader is an upstream that keeps the requests that it reads.
type messageReader struct {
	*httptest.Server

	mu         sync.Mutex
	read       map[string][]smuggling.Message // by the first bytes of the target
	incomplete map[string]int                 // requests whose bodies do not end
}

func newMessageReader(t *testing.T) *messageReader {
	u := &messageReader{read: map[string][]smuggling.Message{}, incomplete: map[string]int{}}
	u.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		key := r.RequestURI[:min(len(r.RequestURI), len(catalogueTarget))]
		u.mu.Lock()
		defer u.mu.Unlock()
		if err != nil {
			u.incomplete[key]++
			return
		}
		u.read[key] = append(u.read[key], smuggling.Message{Method: r.Method, Target: r.RequestURI, Body: string(body)})
	}))
	t.Cleanup(u.Close)
	return u
}

// got checks the requests that the upstream has read of d.
func (u *messageReader) got(t *testing.T, d delivery, following bool) {
	t.Helper()
	want := slices.Clone(d.Messages)
	if d.Fault == smuggling.Valid && d.Status != http.StatusOK {
		want = want[:len(want)-1]
	}
	if following {
		want = append(want, smuggling.Message{Method: http.MethodGet, Target: d.target + "-next"})
	}
	begun := 0
	if d.Fault == smuggling.InBody {
		begun = 1 // the fault may arrive after the gate has forwarded the request
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if diff := cmp.Diff(want, u.read[d.target], cmpopts.EquateEmpty()); diff != "" || u.incomplete[d.target] > begun {
		t.Errorf("%s, bytewise %t, behind %q: the upstream gets %d requests without an end, and others (-want +got):\n%s", d.Name, d.bytewise, d.first, u.incomplete[d.target], diff)
	}
}

// exchangeOf sends first and reads its response, then sends text, byte by byte or at once, and
// returns all data until the connection ends. The text whole is sent at once in any case, since a token is
// long.
func exchangeOf(t *testing.T, conn net.Conn, first, text string, bytewise bool, whole string) string {
	t.Helper()
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	if first != "" {
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	pieces := []string{text}
	if bytewise {
		pieces = nil
		for i, part := range strings.Split(text, whole) {
			if i > 0 {
				pieces = append(pieces, whole)
			}
			pieces = append(pieces, strings.Split(part, "")...)
		}
	}
	go func() {
		for _, piece := range pieces {
			if _, err := io.WriteString(conn, piece); err != nil {
				return // refused before its end
			}
		}
	}()
	answers, _ := io.ReadAll(in) // a reset may follow the answer
	return string(answers)
}

// T-SMG-01 to 10, 13, 18, T-HDR-07, 08, T-SNI-07, T-PATH-10, 19, T-ADD-12: the upstream reads the requests
// of the catalogue as RFC 9112 does, and nothing of a malformed request, nor of what follows it, at any
// place on a connection and in any pieces.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	for _, fronted := range []bool{false, true} {
		t.Run(fmt.Sprintf("fronted=%t", fronted), func(t *testing.T) {
			t.Parallel()
			r, certificate, fields := newReloading(t), "northwind", ""
			upstream := newMessageReader(t)
			if fronted {
				r, certificate = newFronted(t), "lb"
				r.configure(ownTLS, passing("[rfc9440]", byName), r.upstream.url(), upstream.URL)
				fields = r.clientCert("northwind") + "\r\n"
			} else {
				r.configure(r.upstream.url(), upstream.URL)
			}
			r.serve()
			fields += "Authorization: Bearer " + r.tokens["good"] + "\r\n"
			get := "GET /accounts/7 HTTP/1.1\r\nHost: " + catalogueHost + "\r\n" + fields
			firsts := []string{get + "\r\n", get + "Accept-Language: \xff\r\n\r\n"}
			keep := func(smuggling.Request) bool { return true }
			ways := func(n int) []delivery {
				return []delivery{{}, {bytewise: true}, {first: firsts[n%2]}, {first: firsts[n%2], bytewise: true}}
			}
			if fronted {
				keep = isRefused
				ways = func(n int) []delivery {
					return []delivery{{first: []string{"", get + "\r\n"}[n%2], bytewise: n%3 == 0}}
				}
			}
			settings := r.client(certificate, "http/1.1")
			settings.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			dial := func() (net.Conn, error) { return tls.Dial("tcp", r.addresses["partners"], settings) }
			var mu sync.Mutex
			refused := 0
			sendAll(t, deliveries(catalogueHost, fields, keep, ways), dial, fields, func(d delivery, answers string) {
				got := statuses(answers)
				want, may := d.wanted()
				following := slices.Equal(got, append(slices.Clone(want), "200")) && may
				if !following && !slices.Equal(got, want) || d.Fault != smuggling.Valid && !strings.Contains(answers, "\r\nConnection: close\r\n") {
					t.Errorf("%s, bytewise %t, behind %q: the statuses are %v, want %v; answered\n%q", d.Name, d.bytewise, d.first, got, want, answers)
				}
				upstream.got(t, d, following || d.Fault == smuggling.Valid && d.Status == http.StatusOK && !d.Closes)
				switch {
				case strings.Contains(answers, `"reason":"malformed_request"`):
					mu.Lock()
					refused++
					mu.Unlock()
				case d.Fault == smuggling.Valid:
				case d.Fault == smuggling.InBody && strings.Contains(answers, `"reason":"client_malformed"`):
				default:
					t.Errorf("%s: the reason is not told: %q", d.Name, answers)
				}
			})
			gatetest.EventuallyEqual(t, "lines of the log", refused, func() (lines int) {
				for _, line := range r.lines("request") {
					if line["reason"] == "malformed_request" && line["status"] != 200.0 && line["error"] != nil && line["remote"] != "" {
						lines++
					}
				}
				return lines
			})
			counted, err := r.sum(`tallygate_decisions_total\{api="\w+",decision="deny",partner="\w+",reason="malformed_request"\}`)
			if err != nil || counted != float64(refused) || refused == 0 {
				t.Errorf("%d are refused, %v counted, %v", refused, counted, err)
			}
			r.check(r.stop())
		})
	}
}

// The listeners of the issuer refuse the same requests.
func TestMalformedRequestsElsewhere(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure("authorization_servers:\n", "authorization_servers:\n  - {name: ours, issuer: \"https://"+r.issuerAddress+"\", audiences: [https://api.example.test]}\n",
		"admin:", "issuer: {issuer: \"https://"+r.issuerAddress+"\", address: "+r.issuerAddress+", state: state, audience: https://api.example.test, mtls_alias: {address: \"127.0.0.1:0\", url: \"https://mtls.example.test\"}}\nadmin:")
	r.serve()
	settings := r.client("northwind", "http/1.1")
	settings.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for listener, target := range map[string]string{gate.IssuerListener: "/token", gate.AliasListener: "/token"} {
		address := r.addresses[listener]
		dial := func() (net.Conn, error) { return tls.Dial("tcp", address, settings) }
		first := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
		ways := func(n int) []delivery { return []delivery{{first: []string{"", first}[n%2], bytewise: n%3 == 0}} }
		all := deliveries("localhost", "", func(r smuggling.Request) bool { return isRefused(r) && len(r.Messages) == 0 }, ways)
		for i := range all {
			all[i].Bytes = strings.ReplaceAll(all[i].Bytes, all[i].target, target)
		}
		sendAll(t, all, dial, "\x00", func(d delivery, answers string) {
			unread := d.Fault == smuggling.InBody && strings.HasPrefix(answers, "HTTP/1.1 405 ") // answered before the fault arrived
			if strings.Count(answers, "HTTP/1.") != 1 || !unread && !strings.HasPrefix(answers, "HTTP/1.1 400 ") || !strings.Contains(answers, "\r\nConnection: close\r\n") {
				t.Errorf("%s: %s, bytewise %t, behind %q: answered\n%q\nwant a 400 alone", listener, d.Name, d.bytewise, d.first, answers)
			}
		})
		lines := 0
		for _, line := range r.lines("malformed request") {
			if line["listener"] == listener && line["reason"] == "malformed_request" && line["error"] != nil {
				lines++
			}
		}
		if lines == 0 {
			t.Errorf("%s: no line in the log", listener)
		}
	}
	r.check(r.stop())
}

// RFC 9112 section 2.2: empty lines before a request line are skipped.
func TestEmptyLines(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	fields := "Host: api.example.test\r\nAuthorization: Bearer " + r.tokens["good"] + "\r\n"
	get := "GET /accounts/7 HTTP/1.1\r\n" + fields + "\r\n"
	last := "GET /accounts/7 HTTP/1.1\r\n" + fields + "Connection: close\r\n\r\n"
	chunked := "POST /accounts/7 HTTP/1.1\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	counted := "POST /accounts/7 HTTP/1.1\r\n" + fields + "Content-Length: 5\r\n\r\nhello"
	for _, bytewise := range []bool{false, true} {
		text := ""
		for _, request := range []string{get, chunked, get, counted, get, counted, chunked, last} {
			text += "\r\n\r\n" + request
		}
		conn, err := tls.Dial("tcp", r.addresses["partners"], r.client("northwind", "http/1.1"))
		r.check(err)
		r.upstream.forget()
		answers := exchangeOf(t, conn, "", text, bytewise, fields)
		if _, n := r.upstream.take(); strings.Count(answers, "HTTP/1.1 200 ") != 8 || n != 8 {
			t.Errorf("bytewise %t: %d requests upstream, answered\n%s", bytewise, n, answers)
		}
	}
	r.check(r.stop())
}
