package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

// A reloading is a gate whose files a test changes while it runs.
type reloading struct {
	*world
	t *testing.T
}

func newReloading(t *testing.T) *reloading {
	t.Helper()
	r := &reloading{newWorld(t.TempDir()), t}
	t.Cleanup(r.close)
	for name, certificate := range map[string]string{"good": "northwind", "sync": "borealis"} {
		r.check(r.mint([]string{name, certificate, map[string]string{"good": "northwind-ledger", "sync": "borealis-sync"}[name]}))
	}
	return r
}

func (r *reloading) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// configure writes the configuration of the scripts, each old part replaced by the new
// one after it.
func (r *reloading) configure(edits ...string) {
	r.t.Helper()
	text, err := os.ReadFile("testdata/base.yaml")
	r.check(err)
	content := r.expand(string(text))
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(content, edits[i]) {
			r.t.Fatalf("the configuration does not hold %q", edits[i])
		}
		content = strings.Replace(content, edits[i], edits[i+1], 1)
	}
	r.replace("gate.yaml", []byte(content))
}

// expand fills in what the configuration of the scripts leaves open.
func (r *reloading) expand(text string) string {
	return os.Expand(text, func(name string) string {
		return map[string]string{
			"SELF_SIGNED": "false", "ON_FAILURE": "answer", "FORWARD_AUTHORIZATION": "false", "KEY_SET": "{file: keys.json}", "REVOCATION": "{}",
			"STALL_TIMEOUT": "30s", "UPSTREAM_TIMEOUT": "30s", "UPSTREAM": r.upstream.url(),
		}[name]
	})
}

// replace lets a file have another content, all at once.
func (r *reloading) replace(name string, content []byte) {
	r.t.Helper()
	next := filepath.Join(r.dir, "next")
	r.check(os.WriteFile(next, content, 0o600))
	r.check(os.Rename(next, filepath.Join(r.dir, name)))
}

func (r *reloading) serve() {
	r.t.Helper()
	r.check(r.start(binary(r.t), filepath.Join(r.dir, "gate.yaml")))
}

func (r *reloading) await(result string, n int) {
	r.t.Helper()
	r.check(r.reloaded(result, n))
}

// A visit is what became of one request.
type visit struct {
	status  int
	body    string
	closing bool // the gate closes the connection after it
	server  string
	resumed bool
}

// visitor returns what makes requests with a certificate, over as few connections as it can.
func (r *reloading) visitor(certificate, token string, h2 bool, maximum uint16) (func() (visit, error), *http.Transport) {
	settings := r.client(certificate)
	settings.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	settings.MaxVersion = maximum
	settings.InsecureSkipVerify = true // the gate's certificate is what changes; tests look at it
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: h2}
	r.t.Cleanup(transport.CloseIdleConnections)
	return func() (visit, error) {
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.addresses["partners"]+"/accounts/7", nil)
		if err != nil {
			return visit{}, err
		}
		request.Host = "api.example.test"
		request.Header.Set("Authorization", "Bearer "+r.tokens[token])
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return visit{}, err
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		return visit{
			status: answer.StatusCode, body: string(body), closing: answer.Close,
			server: answer.TLS.PeerCertificates[0].Subject.CommonName, resumed: answer.TLS.DidResume,
		}, err
	}, transport
}

// T-TLS-01, 06, 07: when an authority no longer counts, neither do the connections that its
// certificates opened, nor their tickets. Nobody else loses a connection.
func TestReloadTakesTrustAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		h2      bool
		maximum uint16
	}{"HTTP/1.1, TLS 1.2": {false, tls.VersionTLS12}, "HTTP/1.1, TLS 1.3": {false, tls.VersionTLS13}, "HTTP/2": {true, tls.VersionTLS13}} {
		t.Run(name, func(t *testing.T) {
			r := newReloading(t)
			testpki.NewCA("Another Root").Write(r.dir, "another")
			r.configure()
			r.serve()
			doomed, doomedConnections := r.visitor("borealis", "sync", c.h2, c.maximum)
			other, otherConnections := r.visitor("northwind", "good", c.h2, c.maximum)
			expect := func(who func() (visit, error), status int, resumed bool, reason string) visit {
				t.Helper()
				v, err := who()
				if err != nil || v.status != status || v.resumed != resumed || !strings.Contains(v.body, reason) {
					t.Fatalf("%+v, %v; want %d, resumed %t", v, err, status, resumed)
				}
				return v
			}
			for _, who := range []struct {
				visit       func() (visit, error)
				connections *http.Transport
			}{{doomed, doomedConnections}, {other, otherConnections}} {
				expect(who.visit, 200, false, "")
				who.connections.CloseIdleConnections()
				expect(who.visit, 200, true, "") // and so there is a ticket
			}
			r.upstream.forget()

			changed := time.Now()
			r.configure("trust: [borealis-ca.pem]", "trust: [another.pem]")
			for {
				v, err := doomed()
				if err != nil || v.status != 200 && v.status != 401 {
					t.Fatalf("%+v, %v", v, err)
				}
				if v.status == 401 {
					t.Logf("refused %s after the file changed", time.Since(changed).Round(time.Millisecond))
					if !v.resumed || !strings.Contains(v.body, "untrusted_certificate") || v.closing == c.h2 {
						t.Errorf("%+v, want a refusal on the old connection, which ends", v)
					}
					break
				}
				if time.Since(changed) > patience {
					t.Fatal("not refused")
				}
			}
			r.upstream.forget()
			// On connections of their own, since each refusal ends one. That of the first
			// takes no ticket from before; the tickets since then open nothing.
			expect(doomed, 401, false, "untrusted_certificate")
			expect(doomed, 401, true, "untrusted_certificate")
			if received, n := r.upstream.peek(); n > 0 {
				t.Errorf("%d requests reached the upstream:\n%s", n, received)
			}
			expect(other, 200, true, "") // on the connection that it had
			otherConnections.CloseIdleConnections()
			expect(other, 200, false, "") // no ticket of before counts
			otherConnections.CloseIdleConnections()
			expect(other, 200, true, "") // new ones do
			r.check(r.stop())
		})
	}
}

// T-CFG-02: while certificate and key do not fit each other, the pair before serves. An
// open connection outlives its pair.
func TestReloadOfAPair(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	shown := func() string { // by a whole handshake
		t.Helper()
		visit, _ := r.visitor("northwind", "good", false, 0)
		v, err := visit()
		if err != nil || v.status != 200 {
			t.Fatalf("%+v, %v", v, err)
		}
		return v.server
	}
	if got := shown(); got != "gate" {
		t.Errorf("%s is shown", got)
	}
	open, _ := r.visitor("northwind", "good", true, 0)
	if _, err := open(); err != nil {
		t.Fatal(err)
	}
	next := testpki.SelfSigned("renewed", testpki.DNS("api.example.test"))
	r.replace("gate.pem", next.CertPEM())
	r.await("failed", 1)
	if got := shown(); got != "gate" {
		t.Errorf("%s is shown, with another's key", got)
	}
	key := next.KeyPEM()
	r.check(os.WriteFile(filepath.Join(r.dir, "gate-key.pem"), key[:len(key)/2], 0o600)) // T-CFG-02 once more
	r.await("failed", 2)
	r.replace("gate-key.pem", key)
	r.await("ok", 1)
	if got := shown(); got != "renewed" {
		t.Errorf("%s is shown", got)
	}
	if v, err := open(); err != nil || v.status != 200 || v.server != "gate" {
		t.Errorf("%+v, %v; want the connection that was open", v, err)
	}
	r.check(r.stop())
}

// A volume of Kubernetes is swapped by renaming a link, as often as one likes. What the
// system tells nothing of, links between links, is found by reading.
func TestReloadOfAVolume(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	volume := filepath.Join(r.dir, "volume")
	r.check(os.Mkdir(volume, 0o700))
	swap := func(generation string, pair *testpki.Pair) {
		t.Helper()
		r.check(os.Mkdir(filepath.Join(volume, ".."+generation), 0o700))
		pair.Write(filepath.Join(volume, ".."+generation), "tls")
		before, _ := os.Readlink(filepath.Join(volume, "..data"))
		r.check(os.Symlink(".."+generation, filepath.Join(volume, "..data_tmp")))
		r.check(os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")))
		if before != "" {
			r.check(os.RemoveAll(filepath.Join(volume, before)))
		}
	}
	pair := func(name string) *testpki.Pair { return testpki.SelfSigned(name, testpki.DNS("api.example.test")) }
	swap("1", pair("first"))
	for _, name := range []string{"tls.pem", "tls-key.pem"} {
		r.check(os.Symlink("..data/"+name, filepath.Join(volume, name)))
	}
	// gate.yaml names the link a/far, which is one to b/mid, which is one to c1/keys.json.
	for _, folder := range []string{"a", "b", "c1", "c2"} {
		r.check(os.Mkdir(filepath.Join(r.dir, folder), 0o700))
	}
	r.check(os.WriteFile(filepath.Join(r.dir, "c1/keys.json"), testpki.KeySet(r.signers["good"]), 0o600))
	r.check(os.WriteFile(filepath.Join(r.dir, "c2/keys.json"), testpki.KeySet(r.signers["other"]), 0o600))
	r.check(os.Symlink("../b/mid", filepath.Join(r.dir, "a/far")))
	r.check(os.Symlink("../c1/keys.json", filepath.Join(r.dir, "b/mid")))
	r.configure("{certificate: gate.pem, key: gate-key.pem}", "{certificate: volume/tls.pem, key: volume/tls-key.pem}", "{file: keys.json}", "{file: a/far}")
	r.serve()
	for i, name := range []string{"second", "third", "fourth"} {
		swapped := time.Now()
		swap(name, pair(name))
		r.await("ok", i+1)
		t.Logf("%s: taken after %s", name, time.Since(swapped).Round(time.Millisecond))
		if took := time.Since(swapped); took > readEvery/2 {
			t.Errorf("the watch is dead: it took %s", took)
		}
		visit, _ := r.visitor("northwind", "good", false, 0)
		if v, err := visit(); err != nil || v.status != 200 || v.server != name {
			t.Errorf("%+v, %v; want %s", v, err, name)
		}
	}
	time.Sleep(4 * settle) // nothing that is watched moves any more
	r.check(os.Symlink("../c2/keys.json", filepath.Join(r.dir, "b/next")))
	r.check(os.Rename(filepath.Join(r.dir, "b/next"), filepath.Join(r.dir, "b/mid")))
	r.await("ok", 4)
	visit, _ := r.visitor("northwind", "good", false, 0)
	if v, err := visit(); err != nil || v.status != 401 || !strings.Contains(v.body, "bad_signature") {
		t.Errorf("%+v, %v", v, err)
	}
	r.check(r.stop())
}

// A listener's tickets are its own: the partners' open no session at the issuer's, though
// both show one certificate (T-TLS-05).
func TestTicketsOfListeners(t *testing.T) {
	t.Parallel()
	s := newStateful(t)
	s.check(s.start(binary(t), filepath.Join(s.dir, "gate.yaml")))
	settings := s.client("northwind", "http/1.1")
	settings.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	dial := func(listener string) bool {
		t.Helper()
		conn, err := (&tls.Dialer{Config: settings}).DialContext(t.Context(), "tcp", s.addresses[listener])
		s.check(err)
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		s.check(err)
		_, err = io.Copy(io.Discard, conn) // and the ticket
		s.check(err)
		return conn.(*tls.Conn).ConnectionState().DidResume
	}
	if dial(partnersListener) || !dial(partnersListener) {
		t.Error("the partners' listener resumes its sessions wrongly")
	}
	if dial(issuerListener) || !dial(issuerListener) {
		t.Error("the issuer's listener took a ticket of the partners'")
	}
	s.check(s.stop())
}

// A folder that is not there, and one that takes its place, are watched once they can be.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "file")
	log := &logBuffer{}
	w := newWatch(newLog(log, nil))
	defer w.close()
	tells := func(want bool, what string, do func() error) {
		t.Helper()
		w.follow(files{file: look(file)})
		if w.follow(files{file: look(file)}) {
			t.Errorf("%s: a folder is new that was watched", what)
		}
		for len(w.changed) > 0 {
			<-w.changed
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
		wait := 10 * time.Second
		if !want {
			wait = 200 * time.Millisecond
		}
		select {
		case <-w.changed:
			if !want {
				t.Errorf("%s: told", what)
			}
		case <-time.After(wait):
			if want {
				t.Errorf("%s: not told", what)
			}
		}
	}
	write := func(name string) func() error {
		return func() error { return os.WriteFile(filepath.Join(dir, "sub", name), []byte(time.Now().String()), 0o600) }
	}
	tells(false, "a folder that is not watched yet", func() error { return os.Mkdir(filepath.Join(dir, "sub"), 0o700) })
	tells(true, "its file", write("file"))
	tells(true, "its file, again", write("file"))
	tells(true, "another, as it comes", write("log"))
	tells(false, "another, as it is written to", write("log"))
	tells(false, "the mode of its file", func() error { return os.Chmod(file, 0o400) })
	tells(true, "another name", func() error { return os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "gone")) })
	tells(false, "a folder in its place", func() error { return os.Mkdir(filepath.Join(dir, "sub"), 0o700) })
	if !w.follow(files{file: look(file)}) {
		t.Error("a folder that was replaced is none that is new")
	}
	tells(true, "the file in that", write("file"))
	if text := log.bytes(); len(bytes.TrimSpace(text)) > 0 {
		t.Errorf("the log says %s", text)
	}
}

// What cannot be read is a content too, and reading never waits for a writer.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	seen := files{file: look(file), dir: look(dir)}
	if !seen.again().same(seen) {
		t.Error("what is not there has changed")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	now := seen.again()
	if now.same(seen) || !now.written(seen) {
		t.Error("an empty file is none, or is at rest")
	}
	if n := now[file].content.number(); n != 0xe3b0c44298fc || now[file].ends { // the SHA-256 of nothing
		t.Errorf("number %x", int64(n))
	}
	if err := os.WriteFile(file, []byte("line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if later := now.again(); later.same(now) || !later.written(now) || !later[file].ends {
		t.Error("a file that is written to is at rest")
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	if later := now.again(); later.same(now) || later.written(now) {
		t.Error("a file that takes another's place is being written to")
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if look(filepath.Join(dir, "socket")).content != (content{}) {
		t.Error("a socket has a content")
	}
}

// Files count when they are at rest: at once where others took their places, after a pause
// where they are written to, and after a while where they never rest.
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
		r := &reloads{seen: files{file: look(file)}}
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
					r.seen, r.pending = r.seen.again(), nil
					break
				}
				time.Sleep(settle)
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
		if took := waits(func(int) {}); took != settle {
			t.Errorf("another file in its place counts after %s", took)
		}
		write("c")
		if took := waits(func(int) {}); took != writing {
			t.Errorf("a file that was written to counts after %s", took)
		}
		pausing := func(i int) { // with pauses that are shorter
			if i < 20 && i%4 == 0 {
				write(strings.Repeat("d", i+2))
			}
		}
		if took := waits(pausing); took != 16*settle+writing {
			t.Errorf("a file that is written to counts after %s", took)
		}
		if took := waits(func(i int) { write(strings.Repeat("e", i+1)) }); took != restless {
			t.Errorf("a file that is always written to counts after %s", took)
		}
	})
}
