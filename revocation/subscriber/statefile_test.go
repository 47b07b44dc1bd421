package subscriber

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/revocation"
)

// everyKind has an entry of each kind.
func everyKind() []revocation.Entry {
	noon := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	return []revocation.Entry{
		{Kind: revocation.Token, Subject: strings.Repeat("t", 32), Until: noon.Local()},
		{Kind: revocation.ForeignToken, Subject: strings.Repeat("f", 32)},
		{Kind: revocation.Certificate, Subject: strings.Repeat("A", 42) + "E"},
		{Kind: revocation.Application, Subject: "ledger", IssuedBy: noon.Local()},
		{Kind: revocation.Partner, Subject: "northwind", IssuedBy: noon.Local()},
		{Kind: revocation.ForeignSubject, Subject: revocation.ForeignSubjectName("https://keycloak.example", "x"), IssuedBy: noon.Local()},
	}
}

// known returns a knowledge with entries, which was complete at the time completeAt.
func known(t testing.TB, completeAt time.Time, entries ...revocation.Entry) *knowledge {
	t.Helper()
	k := newKnowledge()
	if err := k.add(entries); err != nil {
		t.Fatal(err)
	}
	k.jump("e", 7)
	if !completeAt.IsZero() {
		k.complete("e", 7, completeAt)
	}
	return k
}

func entriesOf(k *knowledge) (all []revocation.Entry) {
	k.set.Each(func(e revocation.Entry) bool { all = append(all, e); return true })
	return all
}

// load returns the entries, the position and the age that were written.
func TestStateFile(t *testing.T) {
	now := time.Now()
	f := &folder{path: filepath.Join(t.TempDir(), "new", "folder")}
	if err := f.save(known(t, now, everyKind()...), issuer, now); err != nil {
		t.Fatal(err)
	}
	f.close()
	about, err := os.Stat(f.file())
	if err != nil || about.Mode() != 0o600 {
		t.Errorf("the file: %v, %v; want mode 0600", about.Mode(), err)
	}
	got := newKnowledge()
	if err := f.load(got, issuer, now.Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everyKind(), entriesOf(got)); diff != "" {
		t.Errorf("(-saved +loaded):\n%s", diff)
	}
	if at, want := got.readPosition(), (revocation.Position{Epoch: "e", Seq: 7}); at != want {
		t.Errorf("position %v, want %v", at, want)
	}
	if age := now.Add(10 * time.Second).Sub(got.lastComplete()); age < 10*time.Second || age > 10*time.Second+time.Millisecond {
		t.Errorf("the age is %v, want 10s", age)
	}
}

// load adds no entry of a file that is truncated or changed at any byte.
func TestDamagedFile(t *testing.T) {
	now := time.Now()
	f := &folder{path: t.TempDir()}
	if err := f.save(known(t, now, everyKind()...), issuer, now); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(f.file())
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, content []byte) {
		t.Helper()
		gatetest.WriteFile(t, f.file(), content)
		got := newKnowledge()
		if err := f.load(got, issuer, now); err == nil || len(entriesOf(got)) > 0 || !got.lastComplete().IsZero() || got.readPosition().Epoch != "" {
			t.Errorf("%s: error %v, %d entries, heard at %v, position %v; want an error and nothing else", what, err, len(entriesOf(got)), got.lastComplete(), got.readPosition())
		}
	}
	for i := range good {
		refuse("cut at "+strconv.Itoa(i), good[:i])
		changed := bytes.Clone(good)
		changed[i] ^= 0x11
		refuse("changed at "+strconv.Itoa(i), changed)
	}
	refuse("with more", append(bytes.Clone(good), 0))
	refuse("of another version", sealed(bytes.Replace(good[:len(good)-sha256.Size], []byte("revocations 1"), []byte("revocations 2"), 1)))
}

// sealed appends the checksum of content.
func sealed(content []byte) []byte {
	sum := sha256.Sum256(content)
	return append(bytes.Clone(content), sum[:]...)
}

// A file of another issuer, or that another user could have written, is not used. If the time of a file is in the future,
// its entries are used, and its position and its time are not.
func TestUnusableFile(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		spoil   func(t *testing.T, path string)
		issuer  string
		now     time.Time
		want    error
		entries int
	}{
		"good":           {want: nil, entries: 6},
		"missing":        {spoil: func(t *testing.T, path string) { check(t, os.Remove(path)) }, want: fs.ErrNotExist},
		"another issuer": {issuer: issuer + "/", want: errFileSource},
		"future":         {now: now.Add(-time.Minute), want: errFileFuture, entries: 6},
		"mode":           {spoil: func(t *testing.T, path string) { check(t, os.Chmod(path, 0o660)) }, want: errFileMode},
		"link": {spoil: func(t *testing.T, path string) {
			check(t, os.Rename(path, path+"2"))
			check(t, os.Symlink(path+"2", path))
		}, want: errFileMode},
		"folder": {spoil: func(t *testing.T, path string) { check(t, os.Remove(path)); check(t, os.Mkdir(path, 0o700)) }, want: errFileMode},
		"pipe":   {spoil: func(t *testing.T, path string) { check(t, os.Remove(path)); check(t, syscall.Mkfifo(path, 0o600)) }, want: errFileMode},
	} {
		t.Run(name, func(t *testing.T) {
			f := &folder{path: t.TempDir()}
			check(t, f.save(known(t, now, everyKind()...), issuer, now))
			f.close()
			if tt.spoil != nil {
				tt.spoil(t, f.file())
			}
			if tt.issuer == "" {
				tt.issuer = issuer
			}
			if tt.now.IsZero() {
				tt.now = now
			}
			got := newKnowledge()
			err := f.load(got, tt.issuer, tt.now)
			if !errors.Is(err, tt.want) || len(entriesOf(got)) != tt.entries {
				t.Errorf("load = %v with %d entries, want %v with %d", err, len(entriesOf(got)), tt.want, tt.entries)
			}
			if fresh := got.isFresh(tt.now, time.Minute); fresh != (tt.want == nil) || (got.readPosition().Epoch != "") != fresh {
				t.Errorf("fresh %t at %v, want %t", fresh, got.readPosition(), tt.want == nil)
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A failed write leaves the previous file, and a write replaces the unfinished file of a killed process.
func TestFailedWrite(t *testing.T) {
	now := time.Now()
	f := &folder{path: t.TempDir()}
	check(t, f.save(known(t, now, everyKind()...), issuer, now))
	gatetest.WriteFile(t, f.file()+".new", []byte("unfinished"))
	check(t, f.save(known(t, now, everyKind()[:2]...), issuer, now))
	check(t, os.MkdirAll(f.file()+".new/x", 0o700)) // nothing can be written there
	if err := f.save(known(t, now, everyKind()[:1]...), issuer, now); err == nil {
		t.Error("save = nil, want an error")
	}
	got := newKnowledge()
	check(t, f.load(got, issuer, now))
	if n := len(entriesOf(got)); n != 2 {
		t.Errorf("%d entries, want the 2 of the last write that succeeded", n)
	}
	if file, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		defer func() { _ = file.Close() }()
		if err := writeState(file, fileHead{source: issuer}, got.set.Each); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("writeState on a full disk = %v, want ENOSPC", err)
		}
	}
}

// A process that is killed while it writes leaves a file that the next process uses.
func TestKilledWriter(t *testing.T) {
	const variable = "TALLYGATE_TEST_WRITE_STATE"
	if path := os.Getenv(variable); path != "" {
		k := known(t, time.Now(), everyKind()...)
		for i := range 5000 {
			check(t, k.add([]revocation.Entry{token(strconv.Itoa(i))}))
		}
		f := &folder{path: path}
		for {
			check(t, f.save(k, issuer, time.Now()))
		}
	}
	f := &folder{path: t.TempDir()}
	check(t, f.save(known(t, time.Now(), everyKind()...), issuer, time.Now()))
	for i := range 8 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		child.Env = append(os.Environ(), variable+"="+f.path)
		check(t, child.Start())
		gatetest.Eventually(t, "a write", func() bool { _, err := os.Stat(f.file() + ".new"); return err == nil })
		time.Sleep(time.Duration(i*i) * 200 * time.Microsecond) // another place in the write each time
		check(t, child.Process.Kill())
		_ = child.Wait()
		got := newKnowledge()
		if err := f.load(got, issuer, time.Now()); err != nil || len(entriesOf(got)) < 6 {
			t.Fatalf("after a kill: load = %v with %d entries, want at least 6", err, len(entriesOf(got)))
		}
	}
}

// A gate that restarts while its issuer is unreachable refuses the tokens that it refused before. It waits for a stream,
// which may know more than the file, and is then ready only if its file was closed at the end of the process, less than
// max_staleness ago.
func TestRestart(t *testing.T) {
	state := t.TempDir()
	edit := func(r *config.Revocations) { r.State = config.Path(state) }
	s := newIssuer(t, func(c *connection) {
		if c.n > 0 {
			c.idle()
			return
		}
		c.begin()
		c.snapshot(1, token("a"))
		c.heartbeat(1)
		c.idle()
	})
	atOnce := func(t *timing) { t.restart = 0 }
	g := s.open(t, gateOptions{edit: edit})
	g.current()
	g.save(true)
	killed := s.open(t, gateOptions{edit: edit, timing: atOnce}) // the first process has not closed its file, as if killed
	if !killed.revoked("a") || killed.Synced() || !errors.Is(killed.Current(), ErrStale) {
		t.Errorf("after a kill: a revoked %t, synced %t, %v; want true, false, ErrStale", killed.revoked("a"), killed.Synced(), killed.Current())
	}
	killed.lease.Release()
	g.lease.Release() // the end of the process
	waits := s.open(t, gateOptions{edit: edit})
	if !waits.revoked("a") || waits.Synced() || !errors.Is(waits.Current(), ErrStale) {
		t.Errorf("before the first stream: a revoked %t, synced %t, %v; want true, false, ErrStale", waits.revoked("a"), waits.Synced(), waits.Current())
	}
	waits.lease.Release()
	asked := len(s.asked())
	g = s.open(t, gateOptions{edit: edit, timing: atOnce})
	if !g.revoked("a") || !g.Synced() || g.Current() != nil {
		t.Errorf("after a restart: a revoked %t, synced %t, %v; want true, true, nil", g.revoked("a"), g.Synced(), g.Current())
	}
	gatetest.Eventually(t, "a request from the old position", func() bool { got := s.asked(); return len(got) > asked && got[asked] == "e:1" })
	g.lease.Release()
	late := s.open(t, gateOptions{edit: edit, timing: atOnce, now: func() time.Time { return time.Now().Add(time.Minute) }})
	if !late.revoked("a") || late.Synced() || !errors.Is(late.Current(), ErrStale) {
		t.Errorf("a minute after the end: a revoked %t, synced %t, %v; want true, false, ErrStale", late.revoked("a"), late.Synced(), late.Current())
	}
}

// The first write of a process removes from the file when the set was complete, also if the set is empty. A file that cannot
// be replaced is removed.
func TestFirstWrite(t *testing.T) {
	now := time.Now()
	for name, blocked := range map[string]bool{"empty set": false, "blocked": true} {
		t.Run(name, func(t *testing.T) {
			before := &folder{path: t.TempDir()}
			check(t, before.save(known(t, now), issuer, now))
			before.close()
			f, k := &folder{path: before.path}, newKnowledge()
			check(t, f.load(k, issuer, now))
			if !k.isFresh(now, time.Minute) || !f.due(k, issuer, now, true) {
				t.Errorf("after an orderly stop: fresh %t, due %t; want true, true", k.isFresh(now, time.Minute), f.due(k, issuer, now, true))
			}
			if blocked {
				check(t, os.MkdirAll(filepath.Join(f.file()+".new", "full"), 0o700))
			}
			if err := f.save(k, issuer, now); (err != nil) != blocked {
				t.Errorf("save = %v, want an error: %t", err, blocked)
			}
			killed := newKnowledge()
			if err := f.load(killed, issuer, now); errors.Is(err, fs.ErrNotExist) != blocked || !killed.lastComplete().IsZero() {
				t.Errorf("after a kill: load = %v, complete at %v; want the zero time", err, killed.lastComplete())
			}
		})
	}
}

// The error of a file that cannot be read or written is logged, and the gate fetches the revocations from the
// issuer.
func TestUnusableFolder(t *testing.T) {
	dir := t.TempDir()
	gatetest.WriteFile(t, filepath.Join(dir, "file"), nil)
	gatetest.WriteFile(t, filepath.Join(dir, "revocations"), []byte("garbage"))
	s := newIssuer(t, func(c *connection) {
		c.begin()
		c.snapshot(1, token("a"))
		c.heartbeat(1)
		c.idle()
	})
	var source string
	for path, message := range map[string]string{dir: "not used", filepath.Join(dir, "file"): "not written"} {
		g := s.open(t, gateOptions{edit: func(r *config.Revocations) { r.State = config.Path(path) }})
		g.current()
		if !g.revoked("a") {
			t.Error("a is not revoked")
		}
		source = g.source
		g.lease.Release()
		g.log.Wait(t, "file of revocations "+message)
	}
	f := &folder{path: dir}
	if err := f.load(newKnowledge(), source, time.Now()); err != nil {
		t.Errorf("the file after the gate has replaced it: %v, want no error", err)
	}
}

// What a gate knows is not used once it no longer accepts an anchor or a key that it accepted before: an attacker
// who had the anchor or the key may have sent a position that leaves out revocations. It makes no difference whether the gate reloads or restarts.
func TestDistrustedState(t *testing.T) {
	s := newIssuer(t, steady)
	rogue := filepath.Join(s.dir, "rogue.pem")
	gatetest.WriteFile(t, rogue, newIssuer(t, steady).ca.CertPEM())
	keys := func(name string, signers ...*testpki.Signer) config.Path {
		path := filepath.Join(s.dir, name)
		gatetest.WriteFile(t, path, testpki.KeySet(signers...))
		return config.Path(path)
	}
	one, two := keys("one.json", key), keys("two.json", key, testpkiSigner())
	anchors := func(c *config.AuthorizationServer) {
		c.Connection.Trust = append(c.Connection.Trust, config.Path(rogue))
	}
	file := func(path config.Path) func(*config.AuthorizationServer) {
		return func(c *config.AuthorizationServer) { c.KeySet.URL, c.KeySet.File = nil, path }
	}
	for name, tt := range map[string]struct {
		before, after func(*config.AuthorizationServer)
		restart, keep bool
	}{
		"reload without an anchor":   {before: anchors},
		"restart without an anchor":  {before: anchors, restart: true},
		"reload without a key":       {before: file(two), after: file(one)},
		"restart without a key":      {before: file(two), after: file(one), restart: true},
		"reload to a key set by URL": {before: file(one)},
		"reload with another anchor": {after: anchors, keep: true},
		"reload with another key":    {before: file(one), after: file(two), keep: true},
		"restart":                    {before: anchors, after: anchors, restart: true, keep: true},
		"restart with the same keys": {before: file(two), after: file(two), restart: true, keep: true},
	} {
		t.Run(name, func(t *testing.T) {
			pool, state := new(reuse.Pool), config.Path(t.TempDir())
			edit := func(r *config.Revocations) { r.State = state }
			first := s.open(t, gateOptions{pool: pool, edit: edit, server: tt.before})
			first.current()
			first.save(true)
			if tt.restart {
				first.lease.Release()
			}
			next := s.open(t, gateOptions{pool: pool, edit: edit, server: tt.after, stopped: true})
			if got := next.Status(); next.revoked("a") != tt.keep || (got.Position.Epoch != "") != tt.keep || !tt.keep && !got.LastSync.IsZero() {
				t.Errorf("a revoked %t, position %v, complete at %v; want a known position: %t", next.revoked("a"), got.Position, got.LastSync, tt.keep)
			}
		})
	}
}

// A file has the knowledge of the Subscriber that wrote last. After a reload that replaces the knowledge, it is written again,
// even if both have seen the same number of changes.
func TestReplacedKnowledge(t *testing.T) {
	now := time.Now()
	f := &folder{path: t.TempDir()}
	old, current := known(t, now.Add(-20*time.Second), token("a")), known(t, now, token("b"))
	check(t, f.save(current, issuer, now))
	check(t, f.save(old, issuer, now)) // at the close of the previous Subscriber
	if !f.due(current, issuer, now, true) {
		t.Error("due = false, want true: the file has what another Subscriber knows")
	}
}
