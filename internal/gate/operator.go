package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tallygate/tallygate/config"
)

// OperatorSocket returns the path of the socket on which a running issuer serves operators. It is in
// the folder of the issuer's state, which only the issuer's user can enter. An issuer whose state is in
// a database has no socket, because the operator's commands use the database too.
func OperatorSocket(cfg *config.Config) string {
	return filepath.Join(string(cfg.Issuer.State), OperatorSocketName)
}

const OperatorSocketName = "operator.sock"

// longestSocket bounds the path of a Unix socket. The path with its terminating zero may have 104 bytes
// on macOS and 108 bytes on Linux.
const longestSocket = 103

// checkSocket returns an error for a path that is too long. It is called when the configuration is
// loaded, because bind would fail later and with a less clear error.
func checkSocket(path string) error {
	if len(path) > longestSocket {
		return fmt.Errorf("issuer.state: the socket in it, %q, would have a path of %d bytes, and %d is the most: choose a shorter folder", path, len(path), longestSocket)
	}
	return nil
}

// serveOperator serves the operator's socket until ctx ends.
func (g *Gate) serveOperator(ctx context.Context) error {
	l, err := listenOperator(OperatorSocket(g.current.Load().cfg))
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.current.Load().Issuer.ServeOperator(w, r)
		}),
		ReadTimeout: operatorTimeout, WriteTimeout: operatorTimeout,
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving operators: %w", err)
	}
	return nil
}

// operatorTimeout bounds the reading of an operator's request, and the writing of its answer.
const operatorTimeout = 10 * time.Second

// listenOperator opens the socket. This process already holds the lock of the state, so an existing
// socket was left by a process that was killed.
func listenOperator(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the socket of an earlier process: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for operators: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return peerListener{l.(*net.UnixListener)}, nil
}
