package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// childVariable is set in a child process of a test.
const childVariable = "TALLYGATE_STORE_TEST_CHILD"

// inChild runs body in a child process, which body may crash or limit. body gets argument;
// inChild returns the last line of output.
func inChild(t *testing.T, argument string, body func(argument string) error) string {
	t.Helper()
	if given, ok := os.LookupEnv(childVariable); ok {
		if err := body(given); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), childVariable+"="+argument, "GORACE=atexit_sleep_ms=0") // otherwise each child takes a second longer
	out, err := child.CombinedOutput()
	if err == nil {
		return ""
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("the child process ended with %v: %.160s; want success", err, out)
		return string(out)
	}
	return strings.TrimSpace(string(out))
}

// readAll opens the state in folder and reads all of it.
func readAll(folder string) error {
	f, err := store.Open(folder)
	if err != nil {
		return err
	}
	_, err = f.Keys()
	_, _, one := f.Token(sum("1"))
	every := f.Revocations(func(store.Revocation) error { return nil })
	return errors.Join(err, one, every, f.Close())
}

// filled creates a state of some hundred pages and returns its file.
func filled(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	f := open(t, folder)
	errs := []error{f.ReplaceKeys(nil, []store.Key{{ID: "k", Private: make([]byte, 200)}})}
	for n := range 60 {
		errs = append(errs, f.AddToken(sum(strconv.Itoa(n)), store.Token{Expires: at(int64(n)), Record: make([]byte, 3000)}),
			f.Revoke(store.Revocation{Kind: revocation.Partner, Subject: strings.Repeat("p", 500) + strconv.Itoa(n), Until: at(9)}))
	}
	if err := errors.Join(append(errs, f.Close())...); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "issuer.db")
}

// pagesIn returns the bytes in use of the database at path.
func pagesIn(t *testing.T, path string) (size int) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err == nil {
		err = errors.Join(db.View(func(tx *bbolt.Tx) error { size = int(tx.Size()); return nil }), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// A file truncated at any size is refused with its name, is not changed, and crashes no process.
func TestCutFile(t *testing.T) {
	if _, child := os.LookupEnv(childVariable); child {
		inChild(t, "", readAll)
	}
	path := filled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 4096, 8192, 12288, 16384, 32768, 100_000, pagesIn(t, path) - 1} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := inChild(t, filepath.Dir(path), readAll); !strings.Contains(got, path) {
			t.Errorf("truncated to %d of %d bytes: readAll returned %.120q, want an error with the file name", size, len(whole), got)
		}
		if after, err := os.ReadFile(path); len(after) != size || err != nil {
			t.Errorf("truncated to %d bytes: the file has %d bytes afterwards, %v; want no change", size, len(after), err)
		}
	}
}

// A page of random bytes is an error or was not in use, and crashes no process.
func TestRubbishPages(t *testing.T) {
	if _, child := os.LookupEnv(childVariable); child {
		inChild(t, "", readAll)
	}
	path := filled(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for page := 2; page < min(len(good)/4096, 140); page++ {
		bad := append([]byte{}, good...)
		for i := page % 2 * 16; i < 4096; i++ { // every other page keeps its header
			bad[page*4096+i] ^= byte(0x5a + i)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got := inChild(t, filepath.Dir(path), readAll)
		if got != "" && !strings.Contains(got, path) {
			t.Errorf("random page %d: got error %.100s, want the file name in it", page, got)
		}
		if got != "" {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no random page caused an error, want one at least")
	}
}

// A refused file is unlocked: after its repair the same process can open it.
func TestRefusedFileIsReleased(t *testing.T) {
	path := filled(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{}, good...)
	for i := 2 * 4096; i < len(bad); i++ { // all but the meta pages
		bad[i] = 0xff
	}
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := store.Open(filepath.Dir(path)); err == nil {
		t.Fatal("Open of a corrupt file returned nil, want an error", f.Close())
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readAll(filepath.Dir(path)); err != nil {
		t.Error(err)
	}
}

// A database of another program or of a later format is refused and not changed.
func TestForeignDatabase(t *testing.T) {
	for name, fill := range map[string]func(*bbolt.Tx) error{
		"another program's": func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err },
		"a later format": func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("meta"))
			if err != nil {
				return err
			}
			return b.Put([]byte("format"), []byte("2"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "issuer.db")
			db, err := bbolt.Open(path, 0o600, nil)
			if err == nil {
				err = errors.Join(db.Update(fill), db.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			f, err := store.Open(folder)
			if err == nil {
				t.Error("Open returned nil, want an error", f.Close())
			} else if !strings.Contains(err.Error(), path) {
				t.Errorf("Open returned %v, want the file name in the error", err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("Open has changed the refused file")
			}
		})
	}
}

// Concurrent creations of the state do not replace each other's file.
func TestMadeAtTheSameTime(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	for range 10 {
		folder := filepath.Join(t.TempDir(), "state")
		const makers = 8
		done := make(chan error)
		for n := range makers {
			go func() {
				f, err := store.Open(folder)
				if err != nil {
					done <- err
					return
				}
				done <- errors.Join(f.AddToken(sum(strconv.Itoa(n)), store.Token{}), f.Close())
			}()
		}
		for range makers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		f := open(t, folder)
		for n := range makers {
			if _, ok, err := f.Token(sum(strconv.Itoa(n))); !ok || err != nil {
				t.Fatalf("the token stored by process %d: got %t, %v; want true", n, ok, err)
			}
		}
		if left, err := os.ReadDir(folder); len(left) != 1 || err != nil {
			t.Errorf("temporary files %v are left, %v; want none", left, err)
		}
	}
}

// limitFiles limits the size of files written by this process.
func limitFiles(size uint64) error {
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: 1 << 40})
}

// A first start on a full disk fails, and the next start with free space succeeds.
func TestFirstStartOnFullDisk(t *testing.T) {
	got := inChild(t, t.TempDir(), func(folder string) error {
		for size := uint64(0); size < 64<<10; size += 2048 {
			_ = limitFiles(size)
			if f, err := store.Open(folder); err == nil {
				return f.Close()
			}
			_ = limitFiles(1 << 40)
			if err := readAll(folder); err != nil {
				return fmt.Errorf("a start after a start limited to %d bytes returned %w, want nil", size, err)
			}
			if err := os.RemoveAll(folder); err != nil {
				return err
			}
		}
		return nil
	})
	if got != "" {
		t.Error(got)
	}
}

// A restart on a full disk can read the state; only writes fail.
func TestRestartOnFullDisk(t *testing.T) {
	folder := ""
	if _, child := os.LookupEnv(childVariable); !child {
		folder = filepath.Dir(filled(t))
	}
	got := inChild(t, folder, func(folder string) error {
		_ = limitFiles(0)
		f, err := store.Open(folder)
		if err != nil {
			return err
		}
		if keys, err := f.Keys(); len(keys) != 1 || err != nil {
			return fmt.Errorf("Keys on a full disk returned %d keys, %w", len(keys), err)
		}
		if err := f.AddToken(sum("new"), store.Token{}); !errors.Is(err, store.ErrUnavailable) {
			return fmt.Errorf("a write on a full disk returned %w, want ErrUnavailable", err)
		}
		if n, err := f.Sweep(at(1 << 30)); n != 0 || !errors.Is(err, store.ErrUnavailable) {
			return fmt.Errorf("Sweep on a full disk returned %d, %w; want ErrUnavailable", n, err)
		}
		_ = limitFiles(1 << 40)
		if n, err := f.Sweep(at(1 << 30)); n != 120 || err != nil {
			return fmt.Errorf("Sweep returned %d, %w", n, err)
		}
		return errors.Join(f.AddToken(sum("new"), store.Token{}), f.Close())
	})
	if got != "" {
		t.Error(got)
	}
}

// When the disk is full, at any size, a write is stored wholly or not at all.
func TestFullAtEverySize(t *testing.T) {
	got := inChild(t, t.TempDir(), func(folder string) error {
		f, err := store.Open(folder)
		if err != nil {
			return err
		}
		failed := 0
		for n := range 400 {
			_ = limitFiles(uint64(n) * 1024)
			keys := []store.Key{{ID: strconv.Itoa(n), Private: make([]byte, 5000)}}
			previous, err := f.Keys()
			if err != nil {
				return err
			}
			err = f.ReplaceKeys(previous, keys)
			if err != nil && !errors.Is(err, store.ErrUnavailable) {
				return err
			}
			token := f.AddToken(sum(strconv.Itoa(n)), store.Token{Record: make([]byte, 2000)})
			_ = limitFiles(1 << 40)
			if err != nil {
				failed++
			}
			if got, readErr := f.Keys(); readErr != nil || (len(got) == 1 && got[0].ID == keys[0].ID) != (err == nil) {
				return fmt.Errorf("write %d: ReplaceKeys returned %w, but Keys %w", n, err, readErr)
			}
			if _, ok, readErr := f.Token(sum(strconv.Itoa(n))); readErr != nil || ok != (token == nil) {
				return fmt.Errorf("write %d: AddToken returned %w, but Token %t, %w", n, token, ok, readErr)
			}
		}
		if failed < 3 || failed > 390 {
			return fmt.Errorf("%d of 400 writes failed, want 3 to 390", failed)
		}
		return errors.Join(f.Close(), readAll(folder))
	})
	if got != "" {
		t.Error(got)
	}
}

// Open removes the permissions of other users from the file.
func TestPermissionsNarrowed(t *testing.T) {
	path := filled(t)
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if err := readAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if status, err := os.Stat(path); err != nil || status.Mode().Perm() != 0o600 {
		t.Errorf("after Open the mode is %v, %v; want 0600", status.Mode(), err)
	}
}

// A second process gets ErrInUse after the lock timeout.
func TestSecondProcess(t *testing.T) {
	if folder, child := os.LookupEnv(childVariable); child {
		f, err := store.Open(folder)
		fmt.Println(f != nil, err)
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent is done
		os.Exit(0)
	}
	folder := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestSecondProcess$")
	child.Env = append(os.Environ(), childVariable+"="+folder)
	in, _ := child.StdinPipe()
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "true <nil>\n" {
		t.Fatal(line)
	}
	begun := time.Now()
	if _, err := store.Open(folder); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), filepath.Join(folder, "issuer.db")) {
		t.Error(err)
	}
	if d := time.Since(begun); d > 4*time.Second {
		t.Errorf("Open of a locked file took %v, want 2 s, and 4 s at most", d)
	}
	_ = in.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if err := readAll(folder); err != nil {
		t.Errorf("Open after the other process has ended returned %v, want nil", err)
	}
}

// Truncating the open file causes errors and does not crash the process.
func TestCutWhileOpen(t *testing.T) {
	folder := ""
	if _, child := os.LookupEnv(childVariable); !child {
		folder = filepath.Dir(filled(t))
	}
	got := inChild(t, folder, func(folder string) error {
		f, err := store.Open(folder)
		if err != nil {
			return err
		}
		if err := os.Truncate(filepath.Join(folder, "issuer.db"), 8192); err != nil {
			return err
		}
		failed := 0
		for n := range 60 {
			if _, _, err := f.Token(sum(strconv.Itoa(n))); err != nil {
				failed++
			}
		}
		write := f.AddToken(sum("new"), store.Token{})
		if failed != 60 || write == nil {
			return fmt.Errorf("%d of 60 reads failed, and the write with %w", failed, write)
		}
		_ = f.Close() // must return
		return nil
	})
	if got != "" {
		t.Error(got)
	}
}
