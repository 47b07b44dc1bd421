package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/storetest"
	"github.com/tallygate/tallygate/revocation"
)

// The test binary is also the child process that is killed or fills the disk.
const roleVariable = "TALLYGATE_STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role, folder, _ := strings.Cut(os.Getenv(roleVariable), " "); role {
	case "writer":
		storetest.WriteUntilKilled(func() (storetest.Store, error) { return store.Open(folder) }, nil)
	case "filler":
		fill(folder)
	default:
		goleak.VerifyTestMain(m)
	}
}

func open(t testing.TB, folder string) *store.File {
	t.Helper()
	f, err := store.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func sum(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// at returns a time of whole seconds, which encoding does not change.
func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

func revocations(t *testing.T, f *store.File) map[string]store.Revocation {
	t.Helper()
	all := make(map[string]store.Revocation)
	err := f.Revocations(func(r store.Revocation) error {
		all[fmt.Sprint(r.Kind, r.Subject)] = r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Stored records are there after the file has been opened again.
func TestRoundTrip(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "made", "by", "open")
	f := open(t, folder)
	keys := []store.Key{
		{ID: "b", Algorithm: "ES256", Private: []byte{1, 0xff}, Created: at(1), Activated: at(2), Retired: at(3)},
		{ID: "a", Algorithm: "EdDSA", Private: []byte{2}, Created: at(4)},
	}
	token := store.Token{Expires: at(100), Record: []byte(`{"a":1}`)}
	binary := sum("jti")
	ended := store.Revocation{Kind: revocation.Token, Subject: string(binary[:]), Client: "c", Until: at(50)}
	for _, err := range []error{
		f.ReplaceKeys(nil, []store.Key{{ID: "gone"}}), f.ReplaceKeys([]store.Key{{ID: "gone"}}, keys), f.AddToken(sum("t"), token), f.Revoke(ended),
		f.Revoke(store.Revocation{Kind: revocation.Application, Subject: "app", IssuedBy: at(10), Until: at(20)}),
		f.Revoke(store.Revocation{Kind: revocation.Application, Subject: "app", IssuedBy: at(5), Until: at(30)}),
		f.Revoke(store.Revocation{Kind: revocation.Certificate, Subject: "x5t"}),
		f.Revoke(store.Revocation{Kind: revocation.Certificate, Subject: "x5t", Until: at(1)}),
		f.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f = open(t, folder)
	gotKeys, err := f.Keys()
	if diff := cmp.Diff(keys, gotKeys); diff != "" || err != nil {
		t.Errorf("got error %v (-want +got):\n%s", err, diff)
	}
	gotToken, ok, err := f.Token(sum("t"))
	if diff := cmp.Diff(token, gotToken); diff != "" || !ok || err != nil {
		t.Errorf("Token returned %t, %v (-want +got):\n%s", ok, err, diff)
	}
	if _, ok, err := f.Token(sum("other")); ok || err != nil {
		t.Errorf("Token for an unknown sum returned %t, %v; want false", ok, err)
	}
	want := map[string]store.Revocation{
		"1" + string(binary[:]): ended,
		"2app":                  {Kind: revocation.Application, Subject: "app", IssuedBy: at(10), Until: at(30)},
		"4x5t":                  {Kind: revocation.Certificate, Subject: "x5t"},
	}
	got := make(map[string]store.Revocation)
	for _, r := range revocations(t, f) {
		got[fmt.Sprintf("%d%s", r.Kind, r.Subject)] = r
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A failing change does not affect changes in the same transaction, and a closed state returns
// ErrClosed.
func TestErrors(t *testing.T) {
	f := open(t, t.TempDir())
	var group sync.WaitGroup
	var mu sync.Mutex
	exists := 0
	for n := range 200 {
		group.Go(func() {
			err := f.AddToken(sum(strconv.Itoa(n%100)), store.Token{Expires: at(1), Record: []byte("{}")})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, store.ErrExists):
				exists++
			case err != nil:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if exists != 100 {
		t.Errorf("AddToken returned ErrExists %d times, want 100 of 200", exists)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	if err := f.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p"}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Revoke after Close returned %v, want ErrClosed", err)
	}
	if _, _, err := f.Token(sum("1")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Token after Close returned %v, want ErrClosed", err)
	}
}

// Only the owner may read the state, with any umask, and a second process gets ErrInUse.
func TestFile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	before := syscall.Umask(0)
	f, err := store.Open(folder)
	syscall.Umask(before)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for path, want := range map[string]os.FileMode{folder: 0o700, filepath.Join(folder, "issuer.db"): 0o600} {
		if status, err := os.Stat(path); err != nil || status.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want none for other users", path, status.Mode(), err)
		}
	}
	// Locks belong to open files, so a second Open in this process is like another process.
	if _, err := store.Open(folder); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "issuer.db") {
		t.Errorf("a second Open returned %v, want ErrInUse", err)
	}
}

// A corrupt file or a file of another program is refused and not changed.
func TestCorruptFile(t *testing.T) {
	whole := t.TempDir()
	if err := open(t, whole).Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(whole, "issuer.db"))
	if err != nil {
		t.Fatal(err)
	}
	garbled := append([]byte{}, good...)
	for i := range 8192 { // both meta pages
		garbled[i] ^= 0x5a
	}
	for name, content := range map[string][]byte{"text": []byte(strings.Repeat("no database\n", 2000)), "cut": good[:5000], "garbled": garbled} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "issuer.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := store.Open(folder)
			if err == nil {
				_ = f.Close()
				t.Fatal("Open returned nil, want an error")
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("Open returned %v, want the file name in the error", err)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(content) {
				t.Errorf("Open has changed the refused file, %v", err)
			}
		})
	}
}

// Sweep removes expired records only, and no record whose Until was extended.
func TestSweep(t *testing.T) {
	f := open(t, t.TempDir())
	const many = 2500 // more than two transactions of a sweep
	var group sync.WaitGroup
	for n := range many {
		group.Go(func() {
			if err := f.AddToken(sum(strconv.Itoa(n)), store.Token{Expires: at(int64(100 + n%2*100)), Record: []byte("{}")}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, r := range []store.Revocation{
		{Kind: revocation.Partner, Subject: "over", Until: at(100)},
		{Kind: revocation.Partner, Subject: "prolonged", Until: at(100)},
		{Kind: revocation.Partner, Subject: "prolonged", Until: at(200)},
		{Kind: revocation.Partner, Subject: "for ever"},
	} {
		if err := f.Revoke(r); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.Sweep(at(100)); n != 0 || err != nil {
		t.Errorf("Sweep at the time of expiry returned %d, %v; want 0", n, err)
	}
	if n, err := f.Sweep(at(101)); n != many/2+1 || err != nil {
		t.Errorf("Sweep returned %d, %v; want %d", n, err, many/2+1)
	}
	_, even, _ := f.Token(sum("0"))
	_, odd, _ := f.Token(sum("1"))
	if left := revocations(t, f); even || !odd || len(left) != 2 {
		t.Errorf("after Sweep: even token %t, odd token %t, revocations %v; want false, true and two", even, odd, left)
	}
	if n, err := f.Sweep(at(1000)); n != many/2+1 || err != nil || len(revocations(t, f)) != 1 {
		t.Errorf("Sweep returned %d, %v; want %d and one revocation left", n, err, many/2+1)
	}
}

// Acknowledged writes survive kill -9 at any moment.
func TestKilled(t *testing.T) {
	folder := t.TempDir()
	acknowledged := make(map[string]bool)
	for round := 0; round < 12 || len(acknowledged) < 400; round++ {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), roleVariable+"=writer "+folder)
		storetest.RunUntilKilled(t, child, acknowledged, 10+round*7, nil) // at first while the store is new
		f, err := store.Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		storetest.CheckAcknowledged(t, f, acknowledged)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged, none lost", len(acknowledged))
}

// fill stores records until the disk is full, for which a limit of the file size stands, and
// then checks that no acknowledged record is lost and that writes succeed with free space.
func fill(folder string) {
	fail := func(what string, values ...any) {
		fmt.Println(append([]any{what}, values...)...)
		os.Exit(1)
	}
	f, err := store.Open(folder)
	if err != nil {
		fail("opening", err)
	}
	limit := syscall.Rlimit{Cur: 1 << 20, Max: 1 << 40}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fail("setting the limit", err)
	}
	record := make([]byte, 4<<10)
	n := 0
	for err == nil && n < 10_000 {
		if err = f.AddToken(sum(strconv.Itoa(n)), store.Token{Expires: at(1 << 35), Record: record}); err == nil {
			n++
		}
	}
	if !errors.Is(err, store.ErrUnavailable) || n == 0 {
		fail("AddToken on a full disk, want ErrUnavailable; stored and error:", n, err)
	}
	// bbolt takes free pages at random, so another record of 4 KiB may fit. This record fits nowhere.
	large := make([]byte, 256<<10)
	for range 3 {
		if err := f.AddToken(sum("late"), store.Token{Expires: at(1), Record: large}); !errors.Is(err, store.ErrUnavailable) {
			fail("AddToken of a large record on a full disk, want ErrUnavailable; error:", err)
		}
	}
	for i := range n {
		if _, ok, err := f.Token(sum(strconv.Itoa(i))); !ok || err != nil {
			fail("an acknowledged token is lost; number and error:", i, err)
		}
	}
	if _, ok, _ := f.Token(sum("late")); ok {
		fail("a refused token is stored")
	}
	limit.Cur = 1 << 40
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fail("lifting the limit", err)
	}
	if err := f.AddToken(sum("late"), store.Token{Expires: at(1), Record: record}); err != nil {
		fail("AddToken with free space:", err)
	}
	if err := f.Close(); err != nil {
		fail("closing", err)
	}
	fmt.Println("ok", n)
	os.Exit(0)
}

// A full disk is an error for the writer, loses nothing, and is temporary.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), roleVariable+"=filler "+folder)
	out, err := child.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "ok ") {
		t.Fatalf("%v: %s", err, out)
	}
	if _, ok, err := open(t, folder).Token(sum("late")); !ok || err != nil {
		t.Errorf("Token of the last write returned %t, %v; want true", ok, err)
	}
}

func BenchmarkAddToken(b *testing.B) {
	token := store.Token{Expires: at(1 << 35), Record: make([]byte, 400)}
	b.Run("one at a time", func(b *testing.B) {
		f := open(b, b.TempDir())
		n := 0
		for b.Loop() {
			n++
			if err := f.AddToken(sum(strconv.Itoa(n)), token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 at a time", func(b *testing.B) {
		f := open(b, b.TempDir())
		var mu sync.Mutex
		n := 0
		b.SetParallelism(32) // × 2 cores
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				mu.Lock()
				n++
				id := sum(strconv.Itoa(n))
				mu.Unlock()
				if err := f.AddToken(id, token); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// A folder that other users may write to is refused: they could replace the file or the
// operator's socket.
func TestOpenFolder(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o770); err != nil {
		t.Fatal(err)
	}
	if f, err := store.Open(folder); err == nil || !strings.Contains(err.Error(), "other users may write") {
		t.Errorf("Open returned %v, want an error about the folder", err)
		_ = f.Close()
	}
	if store.Exists(folder) {
		t.Error("Open has created a file in the refused folder")
	}
}
