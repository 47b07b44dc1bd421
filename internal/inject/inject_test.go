package inject

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

var update = flag.Bool("update", false, "write the golden files")

// options returns the options of a line of flags.
func options(t *testing.T, line string) *Options {
	t.Helper()
	var o Options
	flags := pflag.NewFlagSet("inject", pflag.ContinueOnError)
	o.AddFlags(flags)
	if err := flags.Parse(strings.Fields("--image registry.example/tallygate:1 " + line)); err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	return &o
}

// read returns the content of a file of a golden case, or "" without such a file.
func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// TestGolden injects each testdata/golden/NAME/input.yaml with the flags in NAME/flags, and compares the
// result with output.yaml and report. A refused input has no output.yaml, and its faults are the report.
func TestGolden(t *testing.T) {
	folders, err := filepath.Glob("testdata/golden/*")
	if err != nil || len(folders) < 30 {
		t.Fatalf("got %d golden cases, want at least 30 (%v)", len(folders), err)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			o := options(t, read(t, folder, "flags"))
			input := []File{{"input.yaml", []byte(read(t, folder, "input.yaml"))}}
			var output, report string
			result, err := Inject(input, o)
			if err != nil {
				report = err.Error() + "\n"
			} else {
				output, report = string(result.Files[0].Text), strings.Join(result.Report, "\n")+"\n"
				checkReturns(t, input, result.Files, o)
			}
			compare(t, filepath.Join(folder, "output.yaml"), output)
			compare(t, filepath.Join(folder, "report"), report)
		})
	}
}

// TestDisabledLater: a workload that had the gate and is now disabled loses it, and the report says so.
func TestDisabledLater(t *testing.T) {
	injected := strings.Replace(read(t, "testdata/golden/deployment/output.yaml"), "  namespace: bank\n", "  namespace: bank\n  annotations: {"+annotationInject+": disabled}\n", 1)
	result, err := Inject([]File{{"a.yaml", []byte(injected)}}, options(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(result.Files[0].Text); strings.Contains(text, gateName+":") || strings.Contains(text, "NetworkPolicy") {
		t.Errorf("a disabled workload keeps the gate or its NetworkPolicy:\n%s", text)
	}
	const want = "a.yaml:1: Deployment/accounts: the gate and its NetworkPolicy are removed: tallygate.dev/inject is disabled"
	if got := strings.Join(result.Report, "\n"); got != want {
		t.Errorf("the report is\n%s\nwant\n%s", got, want)
	}
}

// TestLongLine: a List on one line takes time in proportion to its length. With one pass over the line for each of
// its values, this test would take minutes.
func TestLongLine(t *testing.T) {
	const workload = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"n%d"},"spec":{"selector":{"matchLabels":{"app":"n%d"}},` +
		`"template":{"metadata":{"labels":{"app":"n%d"}},"spec":{"containers":[{"name":"app","image":"é","ports":[{"containerPort":8080}]}]}}}}`
	var items []string
	for i := range 1000 {
		items = append(items, fmt.Sprintf(workload, i, i, i))
	}
	input := []File{{"list.json", []byte(`{"apiVersion":"v1","kind":"List","items":[` + strings.Join(items, ",") + `]}`)}}
	o := options(t, "")
	result, err := Inject(input, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(result.Files[0].Text, []byte(`"image": "registry.example/tallygate:1"`)); got != len(items) {
		t.Errorf("got %d gates, want %d", got, len(items))
	}
	removed, err := Uninject(result.Files)
	if err != nil || !bytes.Equal(removed.Files[0].Text, input[0].Text) {
		t.Errorf("uninject does not give the input back (%v)", err)
	}
}

// checkReturns checks that a second inject changes nothing, and that uninject restores the input.
func checkReturns(t *testing.T, input, injected []File, o *Options) {
	t.Helper()
	again, err := Inject(injected, o)
	if err != nil {
		t.Fatalf("Inject of injected files = %v", err)
	}
	if diff := cmp.Diff(string(injected[0].Text), string(again.Files[0].Text)); diff != "" {
		t.Errorf("the second inject changes (-first +second):\n%s", diff)
	}
	removed, err := Uninject(injected)
	if err != nil {
		t.Fatalf("Uninject = %v", err)
	}
	want, err := Uninject(input)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want.Files[0].Text), string(removed.Files[0].Text)); diff != "" {
		t.Errorf("uninject does not give the input back (-want +got):\n%s", diff)
	}
}

// compare compares text with a golden file, or writes the file. There is no file for empty text.
func compare(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		err := os.Remove(file)
		if text != "" {
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(read(t, file), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", filepath.Base(file), diff)
	}
}

func faultsOf(err error) strictyaml.Faults {
	var faults strictyaml.Faults
	_ = errors.As(err, &faults)
	return faults
}

// TestPositionsOfInjectedFiles: positions are those of the file that was given, even where inject first
// removes the gate from it.
func TestPositionsOfInjectedFiles(t *testing.T) {
	text := read(t, "testdata/golden/service/output.yaml")
	lines := strings.Split(text, "\n")
	result, err := Inject([]File{{"accounts.yaml", []byte(text)}}, options(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range result.Report {
		number, about, ok := strings.Cut(strings.TrimPrefix(line, "accounts.yaml:"), ": ")
		if !ok || strings.HasPrefix(line, " ") {
			continue
		}
		kind, _, _ := strings.Cut(about, "/")
		n, err := strconv.Atoi(number)
		if err != nil || n+1 > len(lines) || lines[n] != "kind: "+kind {
			t.Errorf("the report says %q, want the line of that object", line)
		}
	}
	broken := text + "---\nkind: [\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  hostNetwork: true\n  containers: [{name: p}]\n"
	_, err = Inject([]File{{"accounts.yaml", []byte(broken)}}, options(t, "--app-port 80"))
	at := strings.Count(text, "\n")
	want := fmt.Sprintf("accounts.yaml:%d:1: not valid YAML: did not find expected node content\naccounts.yaml:%d:3: Pod/p: hostNetwork: the pod shares the node's ports, and no NetworkPolicy holds for it: remove hostNetwork", at+3, at+9)
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// TestUninjectAfterAnotherTool: uninject removes the gate from manifests that another tool has rewritten
// after inject, with another order, indentation and style.
func TestUninjectAfterAnotherTool(t *testing.T) {
	folders, err := filepath.Glob("testdata/golden/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		injected := read(t, folder, "output.yaml")
		if injected == "" {
			continue
		}
		want := values(t, read(t, folder, "input.yaml"))
		for style, rewritten := range map[string]string{"YAML": rewriteYAML(t, injected), "JSON": rewriteJSON(t, injected)} {
			result, err := Uninject([]File{{"rewritten", []byte(rewritten)}})
			if err != nil {
				t.Errorf("%s as %s: %v", folder, style, err)
				continue
			}
			if diff := cmp.Diff(want, values(t, string(result.Files[0].Text))); diff != "" {
				t.Errorf("%s as %s (-input +result):\n%s", folder, style, diff)
			}
		}
	}
}

// values returns the values of all documents that are not empty, without empty lists and mappings.
func values(t *testing.T, text string) (all []any) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var v any
		err := decoder.Decode(&v)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if v = withoutEmpty(v); v != nil {
			all = append(all, v)
		}
	}
}

func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, inside := range v {
			if v[key] = withoutEmpty(inside); v[key] == nil {
				delete(v, key)
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = withoutEmpty(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

func rewriteYAML(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for _, v := range values(t, text) {
		out, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n" + string(out))
	}
	return b.String()
}

func rewriteJSON(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for _, v := range values(t, text) {
		out, err := json.Marshal(v, jsontext.WithIndent("  "), json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n" + string(out) + "\n")
	}
	return b.String()
}

// TestLargeFiles: a file that is too large, or would become too large, is a fault, and inject returns soon.
func TestLargeFiles(t *testing.T) {
	large := []File{{"large.yaml", make([]byte, MaxBytes+1)}}
	_, input := Inject(large, options(t, ""))
	_, deep := Inject([]File{{"deep.yaml", bytes.Repeat([]byte("["), 20_000)}}, options(t, ""))
	for want, got := range map[string]error{
		"large.yaml:1:1: the file has 16777217 bytes, and 16777216 are the most: split it":                      input,
		"large.yaml:1:1: with the gate the file would have 16777217 bytes, and 16777216 are the most: split it": checkUninject(large, nil),
		"deep.yaml:1:1: not valid YAML: exceeded max depth of 10000":                                            deep,
	} {
		if got == nil || got.Error() != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}
