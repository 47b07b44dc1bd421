package acme

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenStorage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b")
	for range 2 { // made, and there already
		if err := openStorage(path); err != nil {
			t.Error(err)
		}
		if about, err := os.Stat(path); err != nil || about.Mode().Perm() != 0o700 {
			t.Errorf("Stat(%s) = %v, %v, want mode 0700", path, about, err)
		}
	}
	for mode, fine := range map[os.FileMode]bool{0o755: true, 0o750: true, 0o770: false, 0o702: false, 0o777: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := openStorage(path); (err == nil) != fine {
			t.Errorf("%v: %v", mode, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := openStorage(path); err == nil {
			t.Errorf("%s is a folder", path)
		}
	}
}

// Files in the storage are checked too: another user must not read a key or write a file.
func TestOpenStorageChecksFiles(t *testing.T) {
	const deep = "certificates/directory/a.example"
	for name, tt := range map[string]struct {
		loosen func(dir string) error
		fault  string
	}{
		"nothing":             {func(string) error { return nil }, ""},
		"a readable chain":    {func(dir string) error { return os.Chmod(dir+"/a.example.crt", 0o644) }, ""},
		"a readable folder":   {func(dir string) error { return os.Chmod(dir, 0o755) }, ""},
		"a key of the group":  {func(dir string) error { return os.Chmod(dir+"/a.example.key", 0o640) }, "a.example.key\": others may read the key (-rw-r-----)"},
		"a key of everybody":  {func(dir string) error { return os.Chmod(dir+"/a.example.key", 0o604) }, "a.example.key\": others may read the key"},
		"a writable chain":    {func(dir string) error { return os.Chmod(dir+"/a.example.crt", 0o660) }, "a.example.crt\": others may write to it"},
		"a writable folder":   {func(dir string) error { return os.Chmod(dir, 0o770) }, "a.example\": others may write to it (-rwxrwx---)"},
		"a link":              {func(dir string) error { return os.Symlink("/etc", dir+"/b.example") }, "b.example\" is neither a file nor a folder"},
		"a link in the place": {func(dir string) error { return relink(dir + "/a.example.key") }, "a.example.key\" is neither a file nor a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "acme", deep)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"a.example.crt", "a.example.key", "a.example.json"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("acme", filepath.Join(root, "link")); err != nil {
				t.Fatal(err)
			}
			if err := tt.loosen(dir); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"acme", "link"} { // the operator may have put the folder elsewhere
				err := openStorage(filepath.Join(root, path))
				if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("%s: openStorage returned %v", path, err)
				}
			}
		})
	}
}

func relink(file string) error {
	return errors.Join(os.Rename(file, file+".old"), os.Symlink(file+".old", file))
}

// A folder or file of another user is refused, of root accepted.
func TestStorageOfAnotherUser(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.example.key")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	user := os.Geteuid()
	check := func(user int) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return checkOwnership(file, false, entries[0], user)
	}
	if err := check(user); err != nil {
		t.Error(err)
	}
	if user != 0 {
		if err := check(user + 1); err == nil || !strings.Contains(err.Error(), "belongs to neither root nor the user who runs the gate") {
			t.Errorf("another's: %v", err)
		}
		return
	}
	if err := check(1); err != nil {
		t.Errorf("root's: %v", err)
	}
	if err := os.Chown(file, 4321, 0); err != nil {
		t.Fatal(err)
	}
	if err := openStorage(dir); err == nil || !strings.Contains(err.Error(), "a.example.key\" belongs to neither root") {
		t.Errorf("another's: %v", err)
	}
	if err := check(4321); err != nil {
		t.Errorf("one's own: %v", err)
	}
	if err := os.Chown(dir, 4321, 0); err != nil {
		t.Fatal(err)
	}
	if err := openStorage(dir); err == nil || strings.Contains(err.Error(), ".key") {
		t.Errorf("another's folder: %v", err)
	}
}

// The error names a folder that cannot be written, and the check leaves no file.
func TestStorageIsWritable(t *testing.T) {
	dir := t.TempDir()
	if err := checkWritable(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	err := checkWritable(filepath.Join(dir, "gone"))
	if err == nil || !strings.Contains(err.Error(), "writing to listener.certificate.acme.storage") || !strings.Contains(err.Error(), filepath.Join(dir, "gone")) {
		t.Errorf("a folder that is gone: %v", err)
	}
}
