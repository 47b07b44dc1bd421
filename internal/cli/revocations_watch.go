package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/issuer"
)

const revocationsWatchHelp = `Watch prints the audit record of each revocation once it is in effect at the issuer that
is asked, until it is interrupted. It begins with the next revocation. If the issuer
stops or the connection ends, watch says so on standard error and tries again.

With -o json each record is a JSON object on a line of its own.`

// watchRetry is the time between two attempts to reach the issuer.
const watchRetry = time.Second

func revocationsWatchCommand() *cobra.Command {
	var source revocationSource
	command := &cobra.Command{
		Use:     "watch",
		Short:   "Print revocations as they take effect",
		Long:    revocationsWatchHelp,
		Example: "  tallygate revocations watch --issuer https://as.example.com:9443 --cert me.pem --key me-key.pem --ca as-ca.pem",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := source.check(); err != nil {
				return err
			}
			w := watch{kind: source.kind, format: *source.format, stdout: command.OutOrStdout(), stderr: command.ErrOrStderr(), retry: watchRetry}
			return w.start(command.Context(), &source)
		},
	}
	source.addFlags(command)
	return command
}

// A watch prints records as they come.
type watch struct {
	kind           string
	format         outputFormat
	query          func(context.Context, issuer.RevocationQuery) (issuer.RevocationList, error)
	stdout, stderr io.Writer
	retry          time.Duration
	after          uint64 // the number of the newest record that was seen
}

// leastTimeout is the least time limit for a call that waits for a record: the issuer waits for up to 8 s.
const leastTimeout = 15 * time.Second

// start runs w with the issuer of source. A database is opened once. No other state is opened here: if no issuer runs,
// nothing is revoked, and the lock of the state would keep an issuer from starting.
func (w *watch) start(ctx context.Context, source *revocationSource) error {
	source.target.remote.options.Timeout = max(source.target.remote.options.Timeout, leastTimeout)
	w.query = func(ctx context.Context, q issuer.RevocationQuery) (issuer.RevocationList, error) {
		return source.query(ctx, io.Discard, q)
	}
	if source.target.remote.url != "" || source.target.state != "" {
		return w.run(ctx)
	}
	cfg, err := source.target.load()
	switch {
	case err != nil:
		return err
	case cfg.Issuer.Database != nil:
		_, err := executeOffline(cfg, w.stderr, operation[struct{}]{offline: func(i *issuer.Issuer) (struct{}, error) {
			w.query = i.Revocations
			return struct{}{}, w.run(ctx)
		}})
		return err
	}
	source.target.state = string(cfg.Issuer.State)
	return w.run(ctx)
}

// run prints records until ctx ends. It returns an error if the first call fails, or if the issuer refuses.
func (w *watch) run(ctx context.Context) error {
	first, err := w.query(ctx, issuer.RevocationQuery{Limit: 1})
	if err != nil {
		return err
	}
	w.after = first.Newest
	fmt.Fprintln(w.stderr, "watching; interrupt to end")
	lost := false
	for ctx.Err() == nil {
		err := w.next(ctx)
		var fault *exitError
		switch {
		case ctx.Err() != nil:
		case errors.As(err, &fault):
			return err
		case err != nil && !lost:
			fmt.Fprintf(w.stderr, "not connected, trying again: %v\n", err)
		case err == nil && lost:
			fmt.Fprintln(w.stderr, "connected again")
		}
		if lost = err != nil; lost {
			select {
			case <-ctx.Done():
			case <-time.After(w.retry):
			}
		}
	}
	return nil
}

// next waits for records and prints them.
func (w *watch) next(ctx context.Context) error {
	q := issuer.RevocationQuery{Kind: w.kind, Limit: 500, After: w.after, Wait: true}
	var records []issuer.RevocationRecord
	newest := w.after
	for {
		list, err := w.query(ctx, q)
		if err != nil {
			return err
		}
		if list.Newest < w.after {
			fmt.Fprintln(w.stderr, "the issuer has other records than before, perhaps from a backup; tallygate revocations list shows them")
			w.after = list.Newest
			return nil
		}
		newest = max(newest, list.Newest)
		records = append(records, list.Revocations...)
		q.Wait, q.Before = false, list.Next
		if q.Before == 0 {
			break
		}
	}
	slices.Reverse(records)
	for i := range records {
		newest = max(newest, records[i].Number)
		if err := w.print(&records[i]); err != nil {
			return withCode(ExitFailure, err)
		}
	}
	w.after = newest
	return nil
}

func (w *watch) print(r *issuer.RevocationRecord) error {
	if w.format == jsonOutput {
		line, err := json.Marshal(r)
		if err == nil {
			_, err = fmt.Fprintf(w.stdout, "%s\n", line)
		}
		return err
	}
	reason := ""
	if r.Reason != "" {
		reason = ": " + printable(r.Reason)
	}
	_, err := fmt.Fprintf(w.stdout, "%s %s %s by %s%s\n", r.Time.UTC().Format(time.RFC3339), r.Kind, printable(r.Subject), printable(r.Actor), reason)
	return err
}
