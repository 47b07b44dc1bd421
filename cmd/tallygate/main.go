// Certificates with a negative serial number are parsed, so that clients with such a certificate get a
// response with the reason, and not only a TLS alert. Package mtls refuses these certificates.
//go:debug x509negativeserial=1

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tallygate/tallygate/internal/cli"
	"github.com/tallygate/tallygate/internal/gate"
)

func main() {
	ctx, stop := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		first := <-signals
		// After the first signal, signals have their default effect again, so that a second signal ends
		// a program that does not stop.
		signal.Stop(signals)
		if first == os.Interrupt {
			stop(gate.ErrInterrupted)
		}
		stop(nil)
	}()
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
