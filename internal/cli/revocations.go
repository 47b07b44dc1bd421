package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/issuer"
)

func revocationsCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "revocations",
		Short:   "List and watch revocations by operators",
		Example: "  tallygate revocations list",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return withCode(exitUsage, errors.New("missing subcommand: list or watch"))
		},
	}
	command.AddCommand(revocationsListCommand(), revocationsWatchCommand())
	return command
}

// A revocationSource has the flags for the issuer and for the kind of the audit records that a command reads.
type revocationSource struct {
	target issuerTarget
	kind   string
	format *outputFormat
}

// addFlags adds the flags of s to command.
func (s *revocationSource) addFlags(command *cobra.Command) {
	s.format = outputFlag(command)
	s.target.addFlags(command)
	s.target.addRemoteFlags(command)
	kinds := issuer.RevocationKinds()
	command.Flags().StringVar(&s.kind, "kind", "", "only this `kind`: "+strings.Join(kinds, ", "))
	_ = command.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

func (s *revocationSource) check() error {
	if s.kind != "" && !slices.Contains(issuer.RevocationKinds(), s.kind) {
		return withCode(exitUsage, fmt.Errorf("--kind: must be one of %s", strings.Join(issuer.RevocationKinds(), ", ")))
	}
	return nil
}

// query asks the issuer for records.
func (s *revocationSource) query(ctx context.Context, stderr io.Writer, q issuer.RevocationQuery) (issuer.RevocationList, error) {
	return execute(ctx, &s.target, stderr, operation[issuer.RevocationList]{
		http.MethodGet, "/revocations?" + q.Values().Encode(), nil,
		func(i *issuer.Issuer) (issuer.RevocationList, error) { return i.Revocations(ctx, q) },
	})
}

const revocationsListHelp = `List prints the audit records of revocations, newest first: when, what, by whom and why.
A record is written with each revocation by an operator, in the same transaction. A client
that revokes its own token (RFC 7009), and a security event of another authorization server,
leave a line in the log, and no record.

The last line counts all revocations in force. The table cuts long values; -o json has
them whole. With --issuer the operator needs the permission read.`

func revocationsListCommand() *cobra.Command {
	var source revocationSource
	limit := 0
	command := &cobra.Command{
		Use:   "list",
		Short: "List revocations, who requested them, and why",
		Long:  revocationsListHelp,
		Example: "  tallygate revocations list --kind certificate\n" +
			"  tallygate revocations list --issuer https://as.example.com:9443 --cert me.pem --key me-key.pem --ca as-ca.pem",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if limit < 1 {
				return withCode(exitUsage, errors.New("--limit: must be positive"))
			}
			if err := source.check(); err != nil {
				return err
			}
			list, err := source.list(command.Context(), command.ErrOrStderr(), limit)
			switch {
			case err != nil:
				return err
			case *source.format == jsonOutput:
				return writeJSON(command.OutOrStdout(), list)
			}
			if _, err := io.WriteString(command.OutOrStdout(), revocationTable(list)); err != nil {
				return err
			}
			if list.Next > 0 {
				fmt.Fprintf(command.ErrOrStderr(), "there are older records: --limit %d shows more\n", 10*limit)
			}
			return nil
		},
	}
	source.addFlags(command)
	command.Flags().IntVar(&limit, "limit", 50, "print up to this `number` of records")
	return command
}

// list returns up to limit records. It requests one page at a time.
func (s *revocationSource) list(ctx context.Context, stderr io.Writer, limit int) (all issuer.RevocationList, err error) {
	q := issuer.RevocationQuery{Kind: s.kind}
	for {
		// A record takes up to 1 KiB, so 500 are below what tokenclient and callIssuer read.
		q.Limit = min(limit-len(all.Revocations), 500)
		page, err := s.query(ctx, stderr, q)
		if err != nil {
			return all, err
		}
		page.Revocations = append(all.Revocations, page.Revocations...)
		all = page
		if q.Before = page.Next; q.Before == 0 || len(all.Revocations) >= limit {
			return all, nil
		}
	}
}

// The widths of the columns of revocationTable: with the time of 20 characters, a kind of up to 15, and two spaces after
// each of four columns, at least 24 of 100 characters remain for the reason.
const (
	subjectWidth = 17
	actorWidth   = 18
	lineWidth    = 100
)

func revocationTable(list issuer.RevocationList) string {
	rows := [][4]string{{"TIME", "KIND", "SUBJECT", "ACTOR"}}
	reasons := []string{"REASON"}
	for i := range list.Revocations {
		r := &list.Revocations[i]
		rows = append(rows, [4]string{r.Time.UTC().Format(time.RFC3339), r.Kind, cut(printable(r.Subject), subjectWidth), cut(printable(r.Actor), actorWidth)})
		reasons = append(reasons, printable(r.Reason))
	}
	var widths [4]int
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	rest := lineWidth - widths[0] - widths[1] - widths[2] - widths[3] - 4*2
	for n, row := range rows {
		line := ""
		for i, text := range row {
			line += text + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
		}
		b.WriteString(strings.TrimRight(line+cut(reasons[n], rest), " ") + "\n")
	}
	var counts []string
	for _, kind := range issuer.RevocationKinds() {
		if n := list.InForce[kind]; n > 0 {
			counts = append(counts, fmt.Sprintf("%s %d", kind, n))
		}
	}
	if counts == nil {
		counts = []string{"nothing"}
	}
	return b.String() + "\nin force: " + strings.Join(counts, ", ") + "\n"
}

// cut returns text, or its first characters and an ellipsis if it has more than width characters.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}

// printable replaces the characters of text that a terminal may interpret.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
