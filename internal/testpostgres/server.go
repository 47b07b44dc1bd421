// Package testpostgres runs PostgreSQL servers for tests.
package testpostgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// A Server is a PostgreSQL server with a data folder of its own. It listens on a free port of loopback
// and on a Unix socket.
type Server struct {
	t       testing.TB
	folder  string // the folder of the data, the log and the socket
	port    int
	command *exec.Cmd
	account *syscall.Credential // nil: the account of the test
}

// programs are the programs that a server needs.
func programs(t testing.TB) (initdb, postgres string) {
	t.Helper()
	find := func(name string) string {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		// Debian installs the programs of the server outside of PATH.
		if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 {
			return found[len(found)-1]
		}
		gatetest.SkipOutsideCI(t, "PostgreSQL is not installed: no "+name)
		return ""
	}
	return find("initdb"), find("postgres")
}

// Start starts a server with the settings, each name=value, and stops it at the end of the test. Unless
// the settings say otherwise, the server does not sync its files.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := prepare(t)
	s.initialize()
	s.Configure("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_wal_size=64MB", "min_wal_size=32MB", "listen_addresses=127.0.0.1",
		"unix_socket_directories="+s.folder, "port="+strconv.Itoa(s.port), "max_connections=200")
	s.Configure(settings...)
	s.Restart()
	return s
}

// template is a folder of data without databases, which is copied, because initdb takes longer.
var template struct {
	mu     sync.Mutex
	folder string
}

// initialize creates the data of s.
func (s *Server) initialize() {
	s.t.Helper()
	template.mu.Lock()
	defer template.mu.Unlock()
	if template.folder == "" {
		initdb, _ := programs(s.t)
		s.run(initdb, "--pgdata", s.data(), "--username=admin", "--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C")
		folder, err := os.MkdirTemp("", "pg")
		if err != nil {
			s.t.Fatal(err)
		}
		s.Own(folder)
		s.run("cp", "-a", s.data(), folder)
		template.folder = folder
		return
	}
	s.run("cp", "-a", filepath.Join(template.folder, "data"), s.folder)
}

// prepare returns a server without data.
func prepare(t testing.TB) *Server {
	t.Helper()
	folder, err := os.MkdirTemp("", "pg") // not t.TempDir, because the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, folder: folder, port: freePort(t)}
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(folder)
	})
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		account, err := user.Lookup("postgres")
		if err != nil {
			account, err = user.Lookup("nobody")
		}
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(account.Uid)
		gid, _ := strconv.Atoi(account.Gid)
		s.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		s.Own(folder)
	}
	return s
}

// Own gives path to the account of the server.
func (s *Server) Own(path string) {
	s.t.Helper()
	if s.account == nil {
		return
	}
	if err := os.Chown(path, int(s.account.Uid), int(s.account.Gid)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// Folder returns the folder of the server, which has the Unix socket.
func (s *Server) Folder() string { return s.folder }

// run runs a program as the account of the server.
func (s *Server) run(name string, arguments ...string) {
	s.t.Helper()
	command := exec.Command(name, arguments...)
	command.Dir = s.folder
	command.SysProcAttr = &syscall.SysProcAttr{Credential: s.account}
	if out, err := command.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v: %s", filepath.Base(name), err, out)
	}
}

// Configure appends settings, each name=value, to the configuration of the server.
func (s *Server) Configure(settings ...string) {
	s.t.Helper()
	path := filepath.Join(s.data(), "postgresql.conf")
	content, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		content = fmt.Appendf(content, "%s = '%s'\n", name, value)
	}
	s.Write("data/postgresql.conf", content)
}

// Write writes a file that only the server can read. name is relative to the folder of the server.
func (s *Server) Write(name string, content []byte) {
	s.t.Helper()
	path := filepath.Join(s.folder, name)
	gatetest.WriteFile(s.t, path, content)
	s.Own(path)
}

// Restart starts the server, after Kill or Stop too, and waits until it accepts connections.
func (s *Server) Restart() {
	s.t.Helper()
	_, postgres := programs(s.t)
	log, err := os.OpenFile(filepath.Join(s.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.command = exec.Command(postgres, "-D", s.data())
	s.command.Dir = s.folder
	s.command.Stdout, s.command.Stderr = log, log
	s.command.SysProcAttr = &syscall.SysProcAttr{Credential: s.account, Setpgid: true}
	endWithTest(s.command.SysProcAttr)
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	var last error
	if !gatetest.Within(30*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.admin("postgres"))
		if last = err; err != nil {
			return false
		}
		return conn.Close(ctx) == nil
	}) {
		text, _ := os.ReadFile(filepath.Join(s.folder, "log"))
		s.t.Fatalf("PostgreSQL does not accept connections: %v\n%s", last, text)
	}
}

// Stop ends the server at once but in order, with its connections.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server as a crash does.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

func (s *Server) end(signal syscall.Signal) {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Signal(signal)
	_ = s.command.Wait()
	s.command = nil
}

// admin returns how the administrator connects to a database over the Unix socket.
func (s *Server) admin(database string) string {
	return fmt.Sprintf("host=%s port=%d user=admin dbname=%s sslmode=disable", s.folder, s.port, database)
}

// Exec executes statements as the administrator of the server.
func (s *Server) Exec(database string, statements ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin(database))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Value returns the only value in the result of a query of the administrator, as text.
func (s *Server) Value(database, query string) (value string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin(database))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var found any
	if err := conn.QueryRow(ctx, query).Scan(&found); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return fmt.Sprint(found)
}

// databases counts the databases of all servers, for their names.
var databases atomic.Int64

// Database creates a database whose owner is a new role of the same name without a password, and
// returns its URL.
func (s *Server) Database() config.DatabaseURL {
	s.t.Helper()
	name := fmt.Sprint("tallygate_", databases.Add(1))
	s.Exec("postgres", "CREATE ROLE "+name+" LOGIN", "CREATE DATABASE "+name+" OWNER "+name)
	return s.URL(name)
}

// URL returns the URL of a database of this name and of the role with the same name, on loopback.
func (s *Server) URL(name string) config.DatabaseURL {
	return config.DatabaseURL{User: name, Database: name, Hosts: []config.DatabaseHost{{Host: "127.0.0.1", Port: s.port}}}
}

// Port returns the port of the server.
func (s *Server) Port() int { return s.port }

// Standby returns a new server that replicates s, and stops it at the end of the test.
func (s *Server) Standby() *Server {
	s.t.Helper()
	standby := prepare(s.t)
	_, postgres := programs(s.t)
	standby.run(filepath.Join(realFolder(s.t, postgres), "pg_basebackup"), "--pgdata", standby.data(), "--host", s.folder, "--port", strconv.Itoa(s.port),
		"--username=admin", "--no-sync", "--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream")
	standby.Configure("unix_socket_directories="+standby.folder, "port="+strconv.Itoa(standby.port))
	standby.Restart()
	return standby
}

// realFolder returns the folder of the file that path, a link perhaps, names.
func realFolder(t testing.TB, path string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

// Log returns the log of the server.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.folder, "log"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Error(err)
	}
	return string(bytes.TrimSpace(text))
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A shared server serves all tests of a binary.
var shared struct {
	once sync.Once
	t    *sharedTB
	s    *Server
}

// Shared returns the server of the test binary, which it starts for the first caller. [Stop] stops it.
func Shared(t testing.TB) *Server {
	t.Helper()
	programs(t)
	shared.once.Do(func() {
		shared.t = &sharedTB{TB: t}
		shared.s = Start(shared.t)
		shared.s.t = nil
	})
	if shared.s == nil {
		t.Fatal("the shared server was not started")
	}
	return &Server{t: t, folder: shared.s.folder, port: shared.s.port, account: shared.s.account}
}

// Stop stops the shared server and removes the files that servers share. TestMain calls it.
func Stop() {
	if shared.t != nil {
		shared.t.cleanup()
	}
	_ = os.RemoveAll(template.folder) // does nothing for ""
}

// A sharedTB keeps the cleanups of the shared server, which must outlive the first test.
type sharedTB struct {
	testing.TB
	cleanups []func()
}

func (t *sharedTB) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *sharedTB) cleanup() {
	for _, f := range t.cleanups {
		f()
	}
}
