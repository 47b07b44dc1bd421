package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// The greatest permitted sizes of the image: compressed, as it is pulled, and on the disk. The authorities of the web
// add 0.2 MB. Code that calls methods by name, such as text/template, would make the linker keep every exported
// method, and add 4 MB.
const (
	mostPulledBytes = 13_000_000
	mostImageBytes  = 30 << 20
)

// checkSBOM makes the SBOM with the Dockerfile's command and checks that it has every module in the binary, and
// nothing that differs from build to build. The image and the release use one version of the tool.
func checkSBOM(t *testing.T, program, out string) {
	t.Helper()
	tool := sbomTool(t)
	if err := os.Symlink(tool, filepath.Join(out, "tools", "cyclonedx-gomod")); err != nil {
		t.Fatal(err)
	}
	runBuild(t, runLine(t, "cyclonedx-gomod bin"), "../..", out, "linux/"+runtime.GOARCH)
	text, err := os.ReadFile(filepath.Join(out, "tallygate.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		SerialNumber string `json:"serialNumber"`
		Metadata     struct {
			Timestamp string `json:"timestamp"`
			Component struct {
				Version string `json:"version"`
			} `json:"component"`
		} `json:"metadata"`
		Components []struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &sbom); err != nil {
		t.Fatal(err)
	}
	if m := sbom.Metadata; m.Component.Version != "v1.2.3-image" || m.Timestamp != "" || sbom.SerialNumber != "" {
		t.Errorf("the SBOM is of version %q, with the time %q and the serial number %q, want v1.2.3-image and neither", m.Component.Version, m.Timestamp, sbom.SerialNumber)
	}
	listed := map[string]bool{}
	for _, c := range sbom.Components {
		listed[c.Name+"@"+c.Version] = true
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if !listed[m.Path+"@"+m.Version] {
			t.Errorf("the SBOM lacks %s@%s", m.Path, m.Version)
		}
	}
	if !listed["std@"+info.GoVersion] {
		t.Errorf("the SBOM lacks the standard library of %s", info.GoVersion)
	}
}

// sbomTool returns the tool that make test installs, in the version of the Dockerfile, the Makefile and the release.
func sbomTool(t *testing.T) string {
	t.Helper()
	version := regexp.MustCompile(`cyclonedx-gomod@(v\S+)`).FindStringSubmatch(runLine(t, "cyclonedx-gomod@"))[1]
	for file, want := range map[string]string{"../../deploy/release": "sbom_version=" + version, "../../Makefile": "SBOM_VERSION          := " + version} {
		if text, err := os.ReadFile(file); err != nil || !bytes.Contains(text, []byte(want+"\n")) {
			t.Errorf("%s has another version of cyclonedx-gomod than the Dockerfile, want %q (%v)", file, want, err)
		}
	}
	tool, err := filepath.Abs("../../.tools/cyclonedx-gomod-" + version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tool); err != nil {
		gatetest.SkipOutsideCI(t, err)
	}
	return tool
}

// checkReproducible builds the binary again, from a copy of the sources in another folder, without git and with
// other times, and compares the two.
func checkReproducible(t *testing.T, program string) {
	t.Helper()
	gatetest.NeedPrograms(t, "git")
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", ":!bench", ":!charts", ":!docs", ":!**/testdata")
	list.Dir = "../.."
	names, err := list.Output()
	if err != nil {
		t.Fatal(err, stderrOf(err))
	}
	folder, out := t.TempDir(), t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) {
			continue // removed, and not yet in a commit
		}
		file := filepath.Join(folder, name)
		err2 := os.MkdirAll(filepath.Dir(file), 0o700)
		err3 := os.WriteFile(file, content, 0o600)
		long := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		if err4 := os.Chtimes(file, long, long); err != nil || err2 != nil || err3 != nil || err4 != nil {
			t.Fatal(err, err2, err3, err4)
		}
	}
	runBuild(t, buildLine(t), folder, out, "linux/"+runtime.GOARCH)
	first, second := hashOf(t, program), hashOf(t, filepath.Join(out, "tallygate"))
	if first != second {
		t.Errorf("two builds give %x and %x, want one binary", first, second)
	}
}

func hashOf(t *testing.T, file string) [sha256.Size]byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(content)
}

// checkSize adds up the sizes of the files that the image gets from the build, also compressed as in a layer.
func checkSize(t *testing.T, out string) {
	t.Helper()
	var size, pulled byteCount
	layer := gzip.NewWriter(&pulled)
	for _, part := range []string{"tallygate", "licenses", "tallygate.cdx.json"} {
		err := filepath.WalkDir(filepath.Join(out, part), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err == nil {
				_, err = io.MultiWriter(&size, layer).Write(content)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := layer.Close(); err != nil {
		t.Fatal(err)
	}
	if size > mostImageBytes || pulled > mostPulledBytes {
		t.Errorf("the image has %d bytes, compressed %d, want at most %d and %d", size, pulled, mostImageBytes, mostPulledBytes)
	}
	t.Logf("%d bytes, compressed %d", size, pulled)
}

// A byteCount counts the bytes that are written to it.
type byteCount int64

func (c *byteCount) Write(p []byte) (int, error) {
	*c += byteCount(len(p))
	return len(p), nil
}
