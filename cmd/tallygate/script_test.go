package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testotlp"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"tallygate": main, "accounts": legacyAPI})
}

// leakless fails a test run that leaves goroutines behind.
type leakless struct{ *testing.M }

func (m leakless) Run() int {
	code := m.M.Run()
	plainGate.remove()
	raceGate.remove()
	testpostgres.Stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScripts runs testdata/*.txtar against the real binary: a gate process, real certificates and
// tokens, and an upstream that records all received bytes. commands has the script commands beyond
// testscript's.
func TestScripts(t *testing.T) {
	runScripts(t, testscript.Params{Dir: "testdata"}, false)
}

// Raw requests in scripts ask for their connection to be closed, so net/http serves them. Without
// that, the fast path serves plain requests, with the same results.
func TestScriptsOnOpenConnections(t *testing.T) {
	notShort(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return !bytes.Contains(text, []byte("\nraw "))
	})
	if len(files) < 10 {
		t.Errorf("only %d scripts send raw requests", len(files))
	}
	runScripts(t, testscript.Params{Files: files}, true)
}

// baseVariables are the values of the variables in testdata/base.yaml, except for addresses.
var baseVariables = map[string]string{
	"SELF_SIGNED": "false", "ON_FAILURE": "respond", "FORWARD_AUTHORIZATION": "false",
	"KEY_SET": "{file: keys.json}", "REVOCATION": "{}", "STALL_TIMEOUT": "30s", "UPSTREAM_TIMEOUT": "30s",
	"BINDING": "certificate", "DPOP": "{}", "TRACE_CONTEXT": "new", "CORRELATION": "{}", "TRACING": "{}",
}

// runScripts runs the scripts in p; with open, requests keep their connections open.
func runScripts(t *testing.T, p testscript.Params, open bool) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir:   p.Dir,
		Files: p.Files,
		Setup: func(env *testscript.Env) error {
			if runsRaceGate() {
				path, err := raceGate.build()
				if err != nil {
					return err
				}
				env.Setenv("PATH", filepath.Dir(path)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			}
			w := newTestGate(env.WorkDir)
			w.open = open
			env.Defer(w.close)
			env.Values[worldKey{}] = w
			for name, value := range baseVariables {
				env.Setenv(name, value)
			}
			env.Setenv("UPSTREAM", w.upstream.url())
			env.Setenv("ISSUER_ADDRESS", w.issuerAddress)
			return nil
		},
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

type worldKey struct{}

var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// gate [FILE]: start the gate on a configuration, testdata/base.yaml by default.
	"gate": func(ts *testscript.TestScript, _ bool, args []string) {
		template, err := os.ReadFile("testdata/base.yaml")
		if len(args) == 1 {
			template, err = []byte(ts.ReadFile(args[0])), nil
		}
		ts.Check(err)
		content := os.Expand(string(template), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs("gate.yaml"), []byte(content), 0o600))
		w := of(ts)
		if w.process != nil {
			ts.Fatalf("a gate is running: end it first")
		}
		ts.Check(w.start(executable(ts), ts.MkAbs("gate.yaml")))
		for name, address := range w.addresses {
			ts.Setenv(strings.ToUpper(name), address)
		}
	},
	// end: stop the gate by SIGINT, which must succeed; no token may be in its log.
	// (testscript has a stop of its own, which skips the rest of the script.)
	"end": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(of(ts).stop()) },
	// token NAME CERT CLIENT [claims=JSON] [header=JSON] [key=other]: make a token bound to CERT; JSON
	// members are merged over the good ones, null removes a member, @thumbprint is the thumbprint of
	// CERT, and @jkt is the thumbprint of the key of call's proofs.
	"token": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(of(ts).mint(args)) },
	// call [-cert NAME] [-token NAME] [-H 'Name: value'] [-h2] [-host H] [-sni NAME] [-to LISTENER]
	// [-body N] [-chunked] [-form ENCODED] [-until STATUS] [-scheme NAME] [-proof JSON|again]
	// [-by KEY] METHOD PATH: print the answer; with -until, repeat until it has that status, # in a
	// header being the number. With -proof, send a DPoP proof by KEY, dpop or other-dpop, with JSON
	// members merged over the good claims, null for none and @nonce for the last DPoP-Nonce; or the
	// last proof again.
	"call": func(ts *testscript.TestScript, neg bool, args []string) {
		w := of(ts)
		err := w.call(args)
		_, _ = ts.Stdout().Write(w.dump())
		if neg {
			if err == nil {
				ts.Fatalf("the call succeeded")
			}
			_, _ = fmt.Fprintln(ts.Stderr(), err)
			return
		}
		ts.Check(err)
	},
	// hold, with the arguments of call: send a request in the background, and return when it
	// has reached the upstream, which is to hang.
	"hold": func(ts *testscript.TestScript, _ bool, args []string) {
		w := of(ts)
		w.upstream.forget()
		behind := *w
		go func() { _ = behind.call(args) }() // ends when the upstream no longer hangs
		if !gatetest.Within(patience, func() bool { _, n := w.upstream.peek(); return n > 0 }) {
			ts.Fatalf("the request does not reach the upstream")
		}
	},
	// raw [-cert NAME] FILE: send a file's bytes, line ends as CR LF, $NAME of a token replaced, and
	// print the bytes of the answer.
	"raw": func(ts *testscript.TestScript, _ bool, args []string) {
		w := of(ts)
		ts.Check(w.raw(ts.ReadFile(args[len(args)-1]), args[:len(args)-1]))
		_, _ = ts.Stdout().Write(w.dump())
	},
	// refused STATUS REASON [CODE]: check that the last call was refused, with its header, body, log line and
	// metric.
	"refused": func(ts *testscript.TestScript, _ bool, args []string) {
		status, err := strconv.Atoi(args[0])
		ts.Check(err)
		code := ""
		if len(args) == 3 {
			code = args[2]
		}
		ts.Check(of(ts).refused(status, args[1], code))
	},
	// granted [STATUS]: the last call reached the upstream, once.
	"granted": func(ts *testscript.TestScript, _ bool, args []string) {
		status := 200
		if len(args) == 1 {
			var err error
			status, err = strconv.Atoi(args[0])
			ts.Check(err)
		}
		ts.Check(of(ts).granted(status))
	},
	// upstream [N]: print the bytes that reached the upstream in the last call; with
	// N, there must have been so many requests.
	"upstream": func(ts *testscript.TestScript, _ bool, args []string) {
		received, n := of(ts).upstream.take()
		if len(args) == 1 && args[0] != strconv.Itoa(n) {
			ts.Fatalf("%d requests reached the upstream, want %s:\n%s", n, args[0], received)
		}
		_, _ = ts.Stdout().Write(bytes.ReplaceAll(received, []byte("\r\n"), []byte("\n")))
	},
	// keep NAME FILE: take a token from a file.
	"keep": func(ts *testscript.TestScript, _ bool, args []string) {
		of(ts).tokens[args[0]] = strings.TrimSpace(ts.ReadFile(args[1]))
	},
	// spill NAME FILE: put a token into a file.
	"spill": func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(of(ts).tokens[args[0]]+"\n"), 0o600))
	},
	// header N: let the next call's @long stand for a header field of N bytes.
	"header": func(ts *testscript.TestScript, _ bool, args []string) {
		n, err := strconv.Atoi(args[0])
		ts.Check(err)
		of(ts).long = "X-Long: " + strings.Repeat("x", n)
	},
	// probe PATH: print status and body of the admin listener's answer.
	"probe": func(ts *testscript.TestScript, _ bool, args []string) {
		status, text, err := of(ts).admin(args[0])
		ts.Check(err)
		_, _ = fmt.Fprintf(ts.Stdout(), "%d %s", status, text)
	},
	// settle: wait until nothing more arrives at the upstream, after a request that was
	// granted and then broke.
	"settle": func(ts *testscript.TestScript, _ bool, _ []string) { of(ts).upstream.settle() },
	// metrics: print what the admin listener exposes.
	"metrics": func(ts *testscript.TestScript, _ bool, _ []string) {
		_, text, err := of(ts).admin("/metrics")
		ts.Check(err)
		_, _ = ts.Stdout().Write(text)
	},
	// log: print the gate's log so far.
	"log": func(ts *testscript.TestScript, _ bool, _ []string) { _, _ = ts.Stdout().Write(of(ts).log.Bytes()) },
	// crl FILE CA [CERT]...: write the list of an authority, revoking certificates; with -stale before
	// FILE, the list is past its next update.
	"crl": func(ts *testscript.TestScript, _ bool, args []string) {
		w := of(ts)
		var options []testpki.ListOption
		if args[0] == "-stale" {
			options, args = []testpki.ListOption{testpki.Updated(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Minute))}, args[1:]
		}
		for _, name := range args[2:] {
			options = append(options, testpki.Revoking(w.pairs[name]))
		}
		w.pairs[args[1]].WriteRevocationList(filepath.Dir(ts.MkAbs(args[0])), filepath.Base(args[0]), options...)
	},
	// hangup: send the gate a SIGHUP.
	"hangup": func(ts *testscript.TestScript, _ bool, _ []string) {
		ts.Check(of(ts).process.Process.Signal(syscall.SIGHUP))
	},
	// reloaded RESULT N: wait until so many reloads had that result, ok or failed.
	"reloaded": func(ts *testscript.TestScript, _ bool, args []string) {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		ts.Check(of(ts).reloaded(args[0], n))
	},
	// collector: start a collector of spans, $COLLECTOR, with the gate's certificate.
	"collector": func(ts *testscript.TestScript, _ bool, _ []string) {
		w := of(ts)
		w.collector = testotlp.Start(w.pairs["gate"])
		ts.Defer(w.collector.Close)
		ts.Setenv("COLLECTOR", w.collector.URL)
	},
	// spans N: wait until the collector has N spans, and print them, one on a line.
	"spans": func(ts *testscript.TestScript, _ bool, args []string) {
		n, err := strconv.Atoi(args[0])
		ts.Check(err)
		collector := of(ts).collector
		if !gatetest.Within(patience, func() bool { return len(collector.Spans()) >= n }) || len(collector.Spans()) != n {
			ts.Fatalf("the collector has %d spans, want %d", len(collector.Spans()), n)
		}
		for _, s := range collector.Spans() {
			attributes := s.Attributes()
			_, _ = fmt.Fprintf(ts.Stdout(), "%s %s", hex.EncodeToString(s.GetTraceId()), s.GetName())
			for _, name := range slices.Sorted(maps.Keys(attributes)) {
				_, _ = fmt.Fprintf(ts.Stdout(), " %s=%s", name, attributes[name])
			}
			_, _ = fmt.Fprintln(ts.Stdout())
		}
	},
	// behave MODE: set how the upstream handles the next requests: echo, hang, reset, early. Requests
	// that hang continue.
	"behave": func(ts *testscript.TestScript, _ bool, args []string) { of(ts).upstream.behave(args[0]) },
}

func of(ts *testscript.TestScript) *testGate { return ts.Value(worldKey{}).(*testGate) }

// executable finds the binary under test in testscript's PATH.
func executable(ts *testscript.TestScript) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		file := filepath.Join(dir, "tallygate")
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	ts.Fatalf("the binary under test is not in PATH")
	return ""
}

// Nothing gives these reasons yet, or (undecided) only a bug does. The list is closed: remove a
// reason when it gets a script.
var unscripted = []access.Reason{
	access.Undecided, access.PolicyDenied, access.RevocationsStale,
}

// A script is skipped if it needs a missing tool. CI has all tools.
func TestToolsInCI(t *testing.T) {
	for _, tool := range []string{"openssl", "curl", "bash"} {
		if _, err := exec.LookPath(tool); err != nil && os.Getenv("CI") != "" {
			t.Errorf("%s is missing", tool)
		}
	}
}

// A script that starts a gate must end it, because end checks the gate's log.
func TestEveryScriptEndsItsGate(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		begun, ended := 0, 0
		for line := range strings.Lines(string(text)) {
			switch strings.Fields(line + " .")[0] {
			case "gate":
				begun++
			case "end":
				ended++
			}
		}
		if begun != ended {
			t.Errorf("%s starts %d gates and ends %d", script, begun, ended)
		}
	}
}

// Every reason has a script of its name and a row in docs/reasons.md.
func TestEveryReasonIsShown(t *testing.T) {
	page, err := os.ReadFile("../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[access.Reason]bool{}
	for _, r := range unscripted {
		missing[r] = true
	}
	for _, r := range access.Reasons() {
		if !bytes.Contains(page, []byte("| `"+r.String()+"` |")) {
			t.Errorf("docs/reasons.md has no row for %s", r)
		}
		script, err := os.ReadFile(filepath.Join("testdata", r.String()+".txtar"))
		want := fmt.Sprintf("refused %d %s", r.Status(), r)
		if r == access.Granted {
			want = "granted"
		}
		switch {
		case missing[r] && err == nil:
			t.Errorf("%s has a script and stands in unscripted", r)
		case !missing[r] && err != nil:
			t.Errorf("%s has no script: %v", r, err)
		case !missing[r] && !bytes.Contains(script, []byte(want)):
			t.Errorf("the script of %s does not say %q", r, want)
		}
	}
}
