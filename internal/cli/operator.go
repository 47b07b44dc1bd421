package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/store"
)

// maxOperatorAnswer bounds an answer of the running issuer: 1 MiB, while a key takes 200 bytes.
const maxOperatorAnswer = 1 << 20

// callIssuer sends a request to the issuer that listens on socket and decodes its answer. A
// nil body is no body. With [isNotRunning], err says that no issuer listens.
func callIssuer[Response any](ctx context.Context, socket, method, path string, body any) (response Response, err error) {
	var content []byte
	if body != nil {
		if content, err = json.Marshal(body); err != nil {
			return response, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://operator"+path, bytes.NewReader(content))
	if err != nil {
		return response, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return response, fmt.Errorf("calling the running issuer: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxOperatorAnswer))
	if err != nil {
		return response, fmt.Errorf("calling the running issuer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return response, withCode(ExitRefused, errors.New(string(bytes.TrimSpace(text))))
	}
	return response, json.Unmarshal(text, &response)
}

// isNotRunning reports whether err says that no process listens on a socket.
func isNotRunning(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// An issuerTarget names the issuer that a command is for. Either --config names a configuration, or
// --state names the folder of the state, or --issuer names an issuer that is called over mutual TLS. --state works even
// if the configuration has a fault.
type issuerTarget struct {
	file   string
	state  string
	remote remoteIssuer
}

// addFlags adds the flags --config and --state to command.
func (t *issuerTarget) addFlags(command *cobra.Command) {
	configFlag(command, &t.file)
	command.Flags().StringVar(&t.state, "state", "", "the `folder` of a running issuer's state, in place of --config: for use while the configuration has a fault")
	_ = command.MarkFlagDirname("state") // fails only for an unknown flag
	command.MarkFlagsMutuallyExclusive("config", "state")
}

// load loads the configuration, which must have an issuer.
func (t *issuerTarget) load() (*config.Config, error) {
	cfg, err := loadConfig(t.file)
	if err == nil && cfg.Issuer == nil {
		err = withCode(exitUsage, fmt.Errorf("%s configures no issuer", t.file))
	}
	return cfg, err
}

// An operation is the work of a command at an issuer. If the issuer runs, the operation is a request to
// the running issuer. If not, this process opens the issuer and calls a method.
type operation[Response any] struct {
	method, path string
	body         any // nil for a request without body
	offline      func(*issuer.Issuer) (Response, error)
}

// execute runs o at the running issuer. If no issuer runs, execute opens the state itself and prints a
// note about it on stderr.
func execute[Response any](ctx context.Context, target *issuerTarget, stderr io.Writer, o operation[Response]) (response Response, err error) {
	if target.remote.url != "" {
		return callRemote[Response](ctx, &target.remote, o.method, o.path, o.body)
	}
	if target.state != "" {
		response, err = callIssuer[Response](ctx, filepath.Join(target.state, gate.OperatorSocketName), o.method, o.path, o.body)
		if isNotRunning(err) {
			err = fmt.Errorf("no issuer runs with its state in %q", target.state)
		}
		return response, err
	}
	cfg, err := target.load()
	if err != nil {
		return response, err
	}
	if cfg.Issuer.Database != nil { // every issuer that runs with the database takes over the change
		return executeOffline(cfg, stderr, o)
	}
	response, err = callIssuer[Response](ctx, gate.OperatorSocket(cfg), o.method, o.path, o.body)
	if !isNotRunning(err) {
		return response, err
	}
	// If this command created the state, the state would belong to the operator's user, and the issuer
	// could not open it.
	if !store.Exists(string(cfg.Issuer.State)) {
		return response, fmt.Errorf("no issuer runs with this configuration, and there is no state in %q", cfg.Issuer.State)
	}
	fmt.Fprintf(stderr, "no issuer runs with its state in %q, so it is opened here; an issuer that runs with another state is not told\n", cfg.Issuer.State)
	return executeOffline(cfg, stderr, o)
}

// executeOffline opens the state that cfg names, runs o and closes the state.
func executeOffline[Response any](cfg *config.Config, stderr io.Writer, o operation[Response]) (response Response, err error) {
	s, err := gate.Load(cfg, gate.NewLog(stderr, cfg.Log.Level.Level()), gate.LoadOptions{})
	if err != nil {
		return response, withCode(exitConfiguration, err)
	}
	defer s.Close()
	if err := s.Issuer.Attach(); err != nil {
		return response, err
	}
	response, err = o.offline(s.Issuer)
	return response, errors.Join(err, s.Issuer.Close())
}
