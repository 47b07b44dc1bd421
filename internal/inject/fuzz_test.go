package inject

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fuzzFlags are sets of flags that together use all of inject.
var fuzzFlags = []string{
	"--app-port 8080 --service",
	"--app-port 8080 --native=false --loopback-env HOST=127.0.0.1 --file a=secret:b --metrics-from m",
	"--loopback-arg --listen=127.0.0.1 --probes forward --network-policy=false",
}

// FuzzInject: inject refuses a text, or uninject restores it exactly and a second inject changes
// nothing.
func FuzzInject(f *testing.F) {
	inputs, err := filepath.Glob("testdata/golden/*/input.yaml")
	if err != nil || len(inputs) == 0 {
		f.Fatal("no seeds", err)
	}
	for i, name := range inputs {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, i)
	}
	for i, text := range []string{
		"kind: Pod\napiVersion: v1\nmetadata: {name: a, labels: {a: b}}\nspec: {containers: [{name: a}]}",
		"{kind: Pod, apiVersion: v1, metadata: {name: a}, spec: {containers: [{name: a, env: [], args: [x]}], volumes: , initContainers: null}}",
		"kind: Pod\napiVersion: v1\nmetadata:\n  name: a\n  annotations:\n  labels: {a: b}\nspec:\n  containers:\n  -\n    name: a\n    x: |+\n      y\n\n\n",
		"? kind\n: Pod\n? apiVersion\n: v1\n? metadata\n: name: a\n  labels:\n    a: b\n? spec\n: containers:\n  - name: a\n",
		"kind: Pod\napiVersion: v1\nmetadata: {name: a, annotations: {tallygate.dev/injected: '{\"version\":1,\"undo\":[{\"remove\":\"/spec\"}]}'}}\nspec: {containers: []}\n",
		"a: &a [*a]\n", "---\n...\n---\n", "\ufeff", "a\u2028b: c\r d: e\n",
		strings.Repeat("[", 200), "kind: List\nitems: [&a {kind: Pod, apiVersion: v1}, *a]\n",
	} {
		f.Add([]byte(text), i)
	}
	f.Fuzz(func(t *testing.T, text []byte, flags int) {
		o := options(t, fuzzFlags[uint(flags)%uint(len(fuzzFlags))])
		input := []File{{"fuzz.yaml", text}}
		clean, err := Uninject(input)
		if err != nil {
			checkFaults(t, err)
			return
		}
		injected, err := Inject(input, o)
		if err != nil {
			checkFaults(t, err)
			return
		}
		removed, err := Uninject(injected.Files)
		if err != nil {
			t.Fatalf("Uninject of injected text = %v\n%s", err, injected.Files[0].Text)
		}
		if !bytes.Equal(removed.Files[0].Text, clean.Files[0].Text) {
			t.Fatalf("uninject gives\n%q\nwant\n%q", removed.Files[0].Text, clean.Files[0].Text)
		}
		again, err := Inject(injected.Files, o)
		if err != nil || !bytes.Equal(again.Files[0].Text, injected.Files[0].Text) {
			t.Fatalf("the second inject gives %v\n%q", err, again)
		}
	})
}

// checkFaults checks that each fault of a refusal has a position and a message.
func checkFaults(t *testing.T, err error) {
	t.Helper()
	faults := faultsOf(err)
	if len(faults) == 0 {
		t.Fatalf("got the error %v, want faults", err)
	}
	for _, fault := range faults {
		if fault.File == "" || fault.Line < 1 || fault.Column < 1 || fault.Message == "" {
			t.Fatalf("a fault without position or words: %#v", fault)
		}
	}
}
