package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/issuer"
)

// maxToken bounds the token on standard input: 1 MiB, far above the 16 KiB of the longest token
// that a gate accepts.
const maxToken = 1 << 20

const revokeHelp = `Revoke ends tokens before they expire: one token, every token issued to an
application or a partner so far, or a certificate with every token bound to it. The
revocation is durable when the command prints it, and gates that follow the issuer
refuse within a second.

Tokens issued later are valid. A revoked certificate is refused for ever. To keep a
partner out, also set "disabled" in the configuration.

With --issuer the command calls an issuer over mutual TLS from anywhere, with the
certificate of an operator in issuer.operators that has the permission revoke. Without
it the command calls the issuer that runs with the same configuration. If no issuer
runs, it writes to the issuer's state. With issuer.database it writes to the database,
and every issuer that runs takes the revocation over within a second. While the
configuration has a fault, name the folder of the running issuer's state with --state.

If gates may subscribe to the issuer that answers, a second line has the number of gates
that had a stream open there. Gates of other issuers are not in this number.

An audit record has the time, the reason and the actor: the operator's name, or the
user of the machine. tallygate revocations list shows the records.`

func revokeCommand() *cobra.Command {
	var target issuerTarget
	var body issuer.RevocationRequest
	var token bool
	var file string
	command := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke tokens and certificates",
		Long:  revokeHelp,
		Example: "  tallygate revoke --thumbprint-of stolen.pem --reason \"key stolen, INC-4711\" \\\n" +
			"    --issuer https://as.example.com:9443 --cert me.pem --key me-key.pem --ca as-ca.pem\n" +
			"  tallygate revoke --application northwind-ledger\n  tallygate revoke --token < token.jwt",
		Args: cobra.NoArgs,
	}
	format := outputFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		var err error
		switch {
		case token:
			body.Token, err = readRevokedToken(command)
		case file != "":
			body.Thumbprint, err = thumbprintOf(command, file)
		}
		if err != nil {
			return err
		}
		response, err := execute(command.Context(), &target, command.ErrOrStderr(), operation[issuer.RevocationResponse]{
			http.MethodPost, "/revocations", body,
			func(i *issuer.Issuer) (issuer.RevocationResponse, error) {
				body.Actor = issuer.UserActor(gate.UserName(os.Getuid()))
				return i.Revoke(body)
			},
		})
		switch {
		case err != nil:
			return err
		case *format == jsonOutput:
			return writeJSON(command.OutOrStdout(), response)
		}
		_, err = fmt.Fprintln(command.OutOrStdout(), revokedText(response))
		return err
	}
	target.addFlags(command)
	target.addRemoteFlags(command)
	flags := command.Flags()
	flags.BoolVar(&token, "token", false, "revoke the token on standard input")
	flags.StringVar(&body.Application, "application", "", "revoke every token issued so far to the application with this `client_id`")
	flags.StringVar(&body.Partner, "partner", "", "revoke every token issued so far to this `partner`")
	flags.StringVar(&body.Thumbprint, "thumbprint", "", "revoke the certificate with this `thumbprint` (base64url) for ever")
	flags.StringVar(&file, "thumbprint-of", "", "revoke the certificate in this `file`, the first of a chain, for ever")
	flags.StringVar(&body.Reason, "reason", "", "`text` for the audit record, up to 200 bytes")
	what := []string{"token", "application", "partner", "thumbprint", "thumbprint-of"}
	command.MarkFlagsOneRequired(what...)
	command.MarkFlagsMutuallyExclusive(what...)
	return command
}

// revokedText describes the revocation, and the number of gates with a stream at the issuer that has answered. The number
// lacks the gates of other issuers and the gates that have lost their stream.
func revokedText(r issuer.RevocationResponse) string {
	switch {
	case r.Streams == nil:
		return r.Done
	case *r.Streams == 1:
		return r.Done + "\nat this issuer, 1 gate has a stream of revocations open"
	}
	return fmt.Sprintf("%s\nat this issuer, %d gates have a stream of revocations open", r.Done, *r.Streams)
}

// readRevokedToken reads a token from standard input, because every user of the machine can see arguments.
func readRevokedToken(command *cobra.Command) (string, error) {
	text, err := readInput("-", command.InOrStdin(), maxToken)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return "", withCode(exitUsage, errors.New("no token on standard input"))
	}
	return string(text), nil
}

// thumbprintOf returns the thumbprint of the first certificate in a file, which is the leaf of a chain.
func thumbprintOf(command *cobra.Command, file string) (string, error) {
	leaf, err := fileCertificate(command, file)
	if err != nil {
		return "", err
	}
	if leaf.IsCA {
		fmt.Fprintf(command.ErrOrStderr(), "%s: a certificate of an authority; the certificates that the authority issued are not revoked with it\n", file)
	}
	return access.ThumbprintOf(leaf).String(), nil
}
