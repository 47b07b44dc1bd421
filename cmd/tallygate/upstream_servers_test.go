package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// upstreamTools is the folder into which make installs the Python servers, and make upstreams installs the Java
// servers.
const upstreamTools = "../../.tools/upstreams-1"

// A serverProgram is a program that runs one or more of the servers of TestRealUpstreams.
type serverProgram struct {
	servers  []string
	optional bool     // runs with TALLYGATE_UPSTREAMS=1, after make upstreams
	needs    []string // programs and files
	file     string   // in testdata/upstreams, with variables that start expands
	command  []string // with the same variables
}

// The variables are DIR, an empty folder; TESTDATA and TOOLS, folders; PORT and LISTEN, the server's port and
// address; USER, the user of the test; PORTS, the ports of all servers of the program; READER and READER_PORT, the
// address and the port of a server of this test to which a proxy forwards.
var serverPrograms = []serverProgram{
	{servers: []string{"nginx"}, needs: []string{"nginx"}, file: "nginx.conf", command: []string{"nginx", "-p", "$DIR", "-c", "nginx.conf", "-e", "stderr"}},
	{servers: []string{"apache"}, needs: []string{"apache2"}, file: "apache.conf", command: []string{"apache2", "-f", "$DIR/apache.conf", "-DFOREGROUND"}},
	{servers: []string{"lighttpd"}, needs: []string{"lighttpd"}, file: "lighttpd.conf", command: []string{"lighttpd", "-D", "-f", "$DIR/lighttpd.conf"}},
	{servers: []string{"h2o"}, optional: true, needs: []string{"h2o"}, file: "h2o.yaml", command: []string{"h2o", "-c", "$DIR/h2o.yaml"}},
	{servers: []string{"varnish"}, optional: true, needs: []string{"varnishd"}, file: "varnish.vcl", command: []string{"varnishd", "-F", "-j", "none", "-n", "$DIR/varnish", "-a", "$LISTEN", "-f", "$DIR/varnish.vcl", "-s", "malloc,16m"}},
	{servers: []string{"node"}, needs: []string{"node"}, command: []string{"node", "$TESTDATA/node.mjs", "$PORT"}},
	{servers: []string{"gunicorn"}, needs: []string{"$TOOLS/venv/bin/gunicorn"}, command: []string{"$TOOLS/venv/bin/gunicorn", "--chdir", "$TESTDATA", "--bind", "$LISTEN", "--worker-class", "gthread", "--threads", "4", "wsgi"}},
	{servers: []string{"waitress"}, needs: []string{"$TOOLS/venv/bin/waitress-serve"}, command: []string{"$TOOLS/venv/bin/waitress-serve", "--listen", "$LISTEN", "wsgi:application"}},
	{servers: []string{"uvicorn-h11"}, needs: []string{"$TOOLS/venv/bin/uvicorn"}, command: []string{"$TOOLS/venv/bin/uvicorn", "--http", "h11", "--port", "$PORT", "--app-dir", "$TESTDATA", "asgi:application"}},
	{servers: []string{"uvicorn-httptools"}, needs: []string{"$TOOLS/venv/bin/uvicorn"}, command: []string{"$TOOLS/venv/bin/uvicorn", "--http", "httptools", "--port", "$PORT", "--app-dir", "$TESTDATA", "asgi:application"}},
	{servers: []string{"hypercorn"}, needs: []string{"$TOOLS/venv/bin/hypercorn"}, command: []string{"$TOOLS/venv/bin/hypercorn", "--bind", "$LISTEN", "asgi:application"}},
	{servers: []string{"puma"}, optional: true, needs: []string{"puma"}, command: []string{"puma", "--bind", "tcp://$LISTEN", "$TESTDATA/config.ru"}},
	{
		servers: []string{"tomcat", "jetty", "undertow", "netty"}, optional: true, needs: []string{"java", "$TOOLS/java"},
		command: []string{"java", "-cp", "$TOOLS/java/*", "$TESTDATA/Upstreams.java", "$PORTS"},
	},
}

// A realUpstream is a running server.
type realUpstream struct {
	name, address string
	accessLog     string // the file with a line for each request, "" for a server without a log
}

// start runs the program until the test ends, and returns its servers.
func (p serverProgram) start(t *testing.T) (running []realUpstream) {
	t.Helper()
	dir := t.TempDir()
	variables := map[string]string{"DIR": dir, "TESTDATA": absolute(t, "testdata/upstreams"), "TOOLS": absolute(t, upstreamTools)}
	account, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	variables["USER"] = account.Username
	reader := newReader(t)
	variables["READER"] = reader
	_, variables["READER_PORT"], _ = net.SplitHostPort(reader)
	var ports []string
	for _, name := range p.servers {
		address := free(t)
		_, port, _ := net.SplitHostPort(address)
		variables["LISTEN"], variables["PORT"] = address, port
		ports = append(ports, port)
		running = append(running, realUpstream{name, address, ""})
	}
	expand := func(text string) string {
		return os.Expand(text, func(name string) string {
			if value, known := variables[name]; known {
				return value
			}
			return "$" + name
		})
	}
	if p.file != "" {
		content, err := os.ReadFile(filepath.Join("testdata/upstreams", p.file))
		if err != nil {
			t.Fatal(err)
		}
		gatetest.WriteFile(t, filepath.Join(dir, p.file), []byte(expand(string(content))))
		if strings.Contains(string(content), "access.log") {
			running[0].accessLog = filepath.Join(dir, "access.log")
		}
	}
	var command []string
	for _, argument := range p.command {
		if argument == "$PORTS" {
			command = append(command, ports...)
		} else {
			command = append(command, expand(argument))
		}
	}
	process := exec.Command(command[0], command[1:]...)
	output := &gatetest.Log{}
	process.Dir, process.Stdout, process.Stderr = dir, output, output
	process.Env = append(os.Environ(), "PYTHONPATH="+variables["TESTDATA"], "PYTHONDONTWRITEBYTECODE=1", "HOME="+dir)
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // some have workers
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-process.Process.Pid, syscall.SIGKILL)
		_ = process.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", command[0], output.Bytes())
		}
	})
	return running
}

// missing returns an error for a tool that the program needs and the machine lacks, or nil.
func (p serverProgram) missing(t *testing.T) error {
	for _, need := range p.needs {
		if tool, inTools := strings.CutPrefix(need, "$TOOLS/"); inTools {
			if _, err := os.Stat(filepath.Join(absolute(t, upstreamTools), tool)); err != nil {
				return err
			}
		} else if _, err := exec.LookPath(need); err != nil {
			return err
		}
	}
	return nil
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newReader starts a server that answers with the request that it has read, in the form that
// testdata/upstreams/README.md describes. It returns the server's address.
func newReader(t *testing.T) string {
	t.Helper()
	var count atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read := fmt.Sprintf("%d %s", count.Add(1), r.Method)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Read", read)
		_, _ = fmt.Fprintf(w, "%s %s\nHost %x\n", read, r.RequestURI, r.Host)
		for name, values := range r.Header {
			for _, value := range values {
				_, _ = fmt.Fprintf(w, "%s %x\n", name, value)
			}
		}
		digest := sha256.Sum256(body)
		_, _ = fmt.Fprintf(w, "\n%d %s\n", len(body), hex.EncodeToString(digest[:]))
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
