package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// A file that is replaced by a pipe is an error, without waiting for a writer. Once it is a regular
// file again, it is loaded.
func TestReloadOfAPipe(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"borealis-ca.pem", "keys.json", "gate-key.pem"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloading(t)
			r.configure()
			r.serve()
			file := filepath.Join(r.dir, name)
			content, err := os.ReadFile(file)
			r.check(err)
			r.check(syscall.Mkfifo(filepath.Join(r.dir, "pipe"), 0o600))
			r.check(os.Rename(filepath.Join(r.dir, "pipe"), file))
			r.await("failed", 1)
			if faults := r.lines("configuration not reloaded, the previous configuration stays active"); !strings.Contains(faults[0]["faults"].([]any)[0].(string), "is not a regular file") {
				t.Errorf("the log says %v", faults)
			}
			r.replace(name, content)
			r.configure("disabled: true", "disabled: false")
			r.await("ok", 1)
			r.check(r.stop())
		})
	}
}

// A file that is being written in place is not loaded before it is complete: the beginning of a
// configuration may allow what neither the previous nor the new configuration allows.
func TestReloadOfHalfAConfiguration(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	content, visit := r.twoHalves()
	// The same content and a comment, written in place, with a pause in the middle.
	f, err := os.Create(filepath.Join(r.dir, "gate.yaml"))
	r.check(err)
	_, err = f.WriteString("# edited\n" + content[0])
	r.check(err)
	time.Sleep(4 * gate.Debounce)
	v, err := visit()
	if err != nil || v.status != 403 {
		t.Errorf("while the file was being written: %+v, %v", v, err)
	}
	_, err = f.WriteString(content[1])
	r.check(err)
	r.check(f.Close())
	r.await("ok", 1)
	expectVisit(t, visit, 403, "")
	r.check(r.stop())
}

// twoHalves starts a gate with a configuration whose first half alone grants the request of visit.
func (r *reloading) twoHalves() (halves [2]string, visit func() (visit, error)) {
	r.t.Helper()
	text, err := os.ReadFile("testdata/base.yaml")
	r.check(err)
	content := string(text)
	i, j := strings.Index(content, "apis:\n"), strings.Index(content, "partners:\n")
	apis := "apis:\n  - name: accounts\n    hosts: [api.example.test]\n    upstream: {url: \"${UPSTREAM}\"}\n    routes:\n      - path: /accounts/{id}\n        methods: [GET]\n        scopes:\n          - accounts:read\n          - accounts:secrets\n"
	content = content[:i] + strings.ReplaceAll(content[j:], "accounts, payments", "accounts") + apis
	content = r.expand(content)
	r.replace("gate.yaml", []byte(content))
	r.check(r.mint([]string{"weak", "northwind", "northwind-ledger", `claims={"scope":"accounts:read"}`}))
	r.serve()
	visit, _ = r.visitor("northwind", "weak", false, 0)
	expectVisit(r.t, visit, 403, "")
	cut := strings.Index(content, "          - accounts:secrets")
	if !strings.HasSuffix(content[:cut], "\n") {
		r.t.Fatal("the test is of a whole line")
	}
	return [2]string{content[:cut], content[cut:]}, visit
}

// The same holds after a failed reload, which is repeated, and without notifications, as for a
// write through another name of the file.
func TestReloadOfHalfAConfigurationAfterAFault(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	content, visit := r.twoHalves()
	other := filepath.Join(t.TempDir(), "gate.yaml")
	r.check(os.Link(filepath.Join(r.dir, "gate.yaml"), other))
	r.check(os.WriteFile(other, []byte(content[0]+"nonsense: true\n"), 0o600))
	r.check(r.process.Process.Signal(syscall.SIGHUP))
	r.await("failed", 1)
	time.Sleep(4 * gate.Debounce) // nothing is being waited for
	f, err := os.Create(other)
	r.check(err)
	_, err = f.WriteString(content[0])
	r.check(err)
	for until := time.Now().Add(gate.PollInterval + time.Second); time.Now().Before(until); time.Sleep(filewatch.InPlaceQuietPeriod / 4) {
		_, err = f.WriteString("# more is coming\n")
		r.check(err)
		if v, err := visit(); err != nil || v.status != 403 {
			t.Fatalf("while the file is being written: %+v, %v", v, err)
		}
	}
	_, err = f.WriteString(content[1])
	r.check(err)
	r.check(f.Close())
	r.await("ok", 1)
	expectVisit(t, visit, 403, "")
	r.check(r.stop())
}

// A configuration that was written in place and ends within a line is truncated, even if the file
// is old.
func TestReloadOfHalfALine(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	file := filepath.Join(r.dir, "gate.yaml")
	text, err := os.ReadFile(file)
	r.check(err)
	whole := strings.TrimSuffix(string(text), "\n")
	r.check(os.WriteFile(file, []byte(whole), 0o600))
	r.await("failed", 1)
	if faults := r.lines("configuration not reloaded, the previous configuration stays active"); !strings.Contains(faults[0]["faults"].([]any)[0].(string), "does not end with a line break") {
		t.Errorf("the log says %v", faults)
	}
	time.Sleep(gate.PollInterval + 4*gate.Debounce) // the gate reads the file again, which still has only half of its content
	if n, err := r.metric(`tallygate_config_last_reload_successful`); err != nil || n != 0 {
		t.Errorf("successful: %v, %v", n, err)
	}
	r.check(os.WriteFile(file, []byte(whole+"\n# all of it\n"), 0o600))
	r.await("ok", 1)
	r.check(r.stop())
}

// A volume that is swapped during a reload is loaded in its new state: never the old configuration
// with the new anchors.
func TestReloadOfAVolumeThatMoves(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	// Two generations of one volume: the file one-ca.pem is northwind's in the first,
	// borealis's in the second, and the configuration says so.
	for generation, owner := range map[string][2]string{"g1": {"northwind", "borealis"}, "g2": {"borealis", "northwind"}} {
		dir := filepath.Join(r.dir, generation)
		r.check(os.Mkdir(dir, 0o700))
		for i, file := range []string{"one-ca.pem", "two-ca.pem"} {
			r.check(os.WriteFile(filepath.Join(dir, file), r.pairs[owner[i]+"-ca"].CertPEM(), 0o600))
		}
		name := map[string]string{"northwind": "one-ca.pem", "borealis": "two-ca.pem"}
		if generation == "g2" {
			name = map[string]string{"northwind": "two-ca.pem", "borealis": "one-ca.pem"}
		}
		r.configure("[northwind-ca.pem]", "[data/"+name["northwind"]+"]", "[borealis-ca.pem]", "[data/"+name["borealis"]+"]")
		r.check(os.Rename(filepath.Join(r.dir, "gate.yaml"), filepath.Join(dir, "gate.yaml")))
	}
	r.check(os.Symlink("g1", filepath.Join(r.dir, "data")))
	r.check(os.Symlink("data/gate.yaml", filepath.Join(r.dir, "gate.yaml")))
	r.check(r.mint([]string{"posing", "posing", "northwind-ledger"}))
	r.serve()
	visit, _ := r.visitor("posing", "posing", false, 0)
	expectVisit(t, visit, 403, "")
	// A revocation list that takes its time holds the reload up after the files were read.
	asked, answer := make(chan bool), make(chan bool)
	pki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- true
		<-answer
		_, _ = w.Write(r.pairs["dormant-ca"].RevocationList())
	}))
	t.Cleanup(pki.Close)
	for _, generation := range []string{"g1", "g2"} {
		file := filepath.Join(r.dir, generation, "gate.yaml")
		text, err := os.ReadFile(file)
		r.check(err)
		r.replace(filepath.Join(generation, "gate.yaml"), []byte(strings.Replace(string(text), "revocation: {}", `revocation: {lists: ["`+pki.URL+`"], exempt: [northwind-ca.pem, borealis-ca.pem]}`, 1)))
	}
	<-asked
	r.check(os.Symlink("g2", filepath.Join(r.dir, "next")))
	r.check(os.Rename(filepath.Join(r.dir, "next"), filepath.Join(r.dir, "data")))
	answer <- true
	go func() { // the second time
		<-asked
		answer <- true
	}()
	r.await("ok", 1)
	v, err := visit()
	if err != nil || v.status != 403 {
		t.Errorf("a certificate of borealis's authority with northwind's name: %+v, %v", v, err)
	}
	if moving := r.lines("configuration not reloaded yet, files are changing"); len(moving) != 1 {
		t.Errorf("the log says %v", moving)
	}
	other, _ := r.visitor("borealis", "sync", false, 0)
	expectVisit(t, other, 200, "")
	r.check(r.stop())
}

// The metric of a removed partner's certificate is removed, even if its last request ends later.
func TestReloadWithoutAPartnerWhoWaits(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	entered, leave := make(chan bool), make(chan bool)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- true
		<-leave
	}))
	t.Cleanup(slow.Close)
	r.configure(r.upstream.url(), slow.URL)
	r.serve()
	visit, _ := r.visitor("borealis", "sync", false, 0)
	done := make(chan visitResult, 1)
	go func() {
		v, err := visit()
		done <- visitResult{v, err}
	}()
	<-entered
	r.configure(r.upstream.url(), slow.URL, "name: borealis", "name: austral")
	r.await("ok", 1)
	leave <- true
	if v := <-done; v.err != nil || v.status != 200 {
		t.Errorf("%+v", v)
	}
	r.log.Wait(t, `"msg":"request"`) // the metrics of the request are set before its log line
	series := regexp.MustCompile(`(?m)^.*not_after.*borealis.*$`)
	gatetest.EventuallyEqual(t, "series of the removed partner's certificate", "", func() string {
		_, text, err := r.admin("/metrics")
		r.check(err)
		return string(series.Find(text))
	})
	close(leave)
	r.check(r.stop())
}

type visitResult struct {
	visit
	err error
}

// Rules that refuse stay active while the file is written in place. A token that the issuer signs
// meanwhile is valid for its lifetime.
func TestReloadOfHalfTheRules(t *testing.T) {
	t.Parallel()
	s := newStateful(t)
	file := filepath.Join(s.dir, "gate.yaml")
	text, err := os.ReadFile(file)
	s.check(err)
	content := strings.Replace(string(text), "admin: {address: \"127.0.0.1:0\"}\n", "", 1)
	content = strings.Replace(content, "issuer:\n", "admin: {address: \"127.0.0.1:0\"}\nissuer:\n", 1)
	if !strings.Contains(content, "admin:") || strings.Index(content, "admin:") > strings.Index(content, "resource_servers:") {
		t.Fatal(content)
	}
	rules := "  governance:\n    workspace:\n      - {name: closed, when: \"true\", refuse: closed}\n"
	s.check(os.WriteFile(file, []byte(content+rules), 0o600))
	s.check(s.start(binary(t), file))
	c := s.speaker("northwind")
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"northwind-ledger"}}
	if status, answer := s.post(c, "/token", form); status == 200 {
		t.Fatal(status, answer)
	}
	f, err := os.Create(file)
	s.check(err)
	_, err = f.WriteString("# edited\n" + content)
	s.check(err)
	time.Sleep(4 * gate.Debounce)
	if status, _ := s.post(c, "/token", form); status == 200 {
		t.Error("a token was given that the rules before and after refuse")
	}
	_, err = f.WriteString(rules)
	s.check(err)
	s.check(f.Close())
	s.check(s.reloaded("ok", 1))
	if status, answer := s.post(c, "/token", form); status == 200 {
		t.Error(status, answer)
	}
	s.check(s.stop())
}
