// Package demo shows the gate and the issuer at work on loopback: it makes certificates, starts the
// gate and the issuer, and sends the requests of a tour. [Init] leaves the same certificates with a
// first configuration for the reader to change.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gate"
)

//go:embed demo.yaml
var demoConfig string

// A demo is a running gate with an issuer and an API.
type demo struct {
	dir       string
	addresses map[string]string // the keys are partners, issuer, admin, console and api
	api       *legacyAPI
	out       *printer
}

func Run(ctx context.Context, stdout io.Writer, dir string, tourOnly bool) error {
	dir, clean, err := demoDir(dir)
	if err != nil {
		return err
	}
	defer clean()
	if err := makePKI(dir, demoLife); err != nil {
		return fmt.Errorf("making the demo's certificates: %w", err)
	}
	listeners, addresses, err := demoListeners()
	if err != nil {
		return err
	}
	d := &demo{dir: dir, addresses: addresses, api: &legacyAPI{}, out: newPrinter(stdout)}
	g, closeLog, err := d.newGate()
	if err != nil {
		return err
	}
	defer closeLog()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return serveAPI(ctx, d.api, listeners["api"]) })
	running.Go(func() error {
		return g.Run(ctx, func(name, _ string) (net.Listener, error) { return listeners[name], nil })
	})
	running.Go(func() error {
		defer stop()
		if err := d.tour(ctx); err != nil || tourOnly {
			return err
		}
		d.pasteLines()
		<-ctx.Done()
		return nil
	})
	return running.Wait()
}

// demoDir returns the folder for the demo's files, which it creates if necessary, and a function
// that cleans up.
func demoDir(dir string) (path string, clean func(), err error) {
	if dir == "" {
		path, err = os.MkdirTemp("", "tallygate-demo-")
		return path, func() { _ = os.RemoveAll(path) }, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("making the demo's folder: %w", err)
	}
	path, err = filepath.Abs(dir)
	return path, func() {}, err
}

// demoListeners opens the demo's ports on loopback: the ports that README names if they are free,
// otherwise any port.
func demoListeners() (map[string]net.Listener, map[string]string, error) {
	listeners, addresses := map[string]net.Listener{}, map[string]string{}
	for name, port := range map[string]string{"partners": "8443", "issuer": "8444", "admin": "9090", "console": "9091", "api": "8080"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("listening for the demo: %w", err)
		}
		listeners[name], addresses[name] = l, l.Addr().String()
	}
	return listeners, addresses, nil
}

// newGate writes the demo's configuration and loads it as the command serve does. The log goes to a
// file, so that it does not disturb the tour's output.
func (d *demo) newGate() (*gate.Gate, func(), error) {
	file := filepath.Join(d.dir, "tallygate.yaml")
	if err := writeConfig(d.dir, file, demoConfig, d.addresses); err != nil {
		return nil, nil, fmt.Errorf("writing the demo's configuration: %w", err)
	}
	logFile, err := os.Create(filepath.Join(d.dir, "gate.log"))
	if err != nil {
		return nil, nil, fmt.Errorf("opening the gate's log: %w", err)
	}
	g, err := gate.New(file, logFile)
	if err != nil {
		_ = logFile.Close()
		return nil, nil, err
	}
	return g, func() { _ = logFile.Close() }, nil
}

// writeConfig writes a configuration, and beside it the schema by which editors explain its keys.
func writeConfig(dir, file, template string, addresses map[string]string) error {
	if err := os.WriteFile(filepath.Join(dir, config.SchemaFile), config.Schema(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte(config.SchemaModeline), expand(template, addresses)...), 0o600)
}

// expand replaces ${NAME} in a configuration by the address of that listener.
func expand(template string, addresses map[string]string) []byte {
	return []byte(os.Expand(template, func(name string) string { return addresses[strings.ToLower(name)] }))
}

func serveAPI(ctx context.Context, api http.Handler, l net.Listener) error {
	server := &http.Server{Handler: api, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the API: %w", err)
	}
	return nil
}
