package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/configcheck"
	"github.com/tallygate/tallygate/internal/gate"
)

func checkCommand() *cobra.Command {
	var file string
	var online bool
	var around []string
	var format *outputFormat
	command := &cobra.Command{
		Use:   "check",
		Short: "Validate a configuration file",
		Long: `Check reads the configuration and the files that it names (certificates, anchors,
keys) exactly as serve does. It opens no listener and sends nothing. It prints every
fault with file, line and column: of the setting that names it, for a fault of a file.
Exit code 3 means that there are faults.

With --config - check reads the configuration from standard input. Relative paths are then
relative to the working folder. With -o json it prints one object: valid, and faults and
warnings with file, line, column, path and message.

Check warns of what is valid and will hurt, such as a certificate that ends within 14
days, and lists what the configuration does not enforce. Both leave the exit code 0.

With --online, check also fetches metadata and keys of the authorization servers and
revocation lists at URLs, and introspects a token that does not exist at each server
with introspection. It connects to the issuer's database, and decrypts the signing keys
there. Exit code 1 means that a server could not be reached, that its metadata lacks
something, or that it refuses the gate's credentials.

With --bypass, check reads no configuration. It connects from this machine to the API's
own port, past the gate, and reports closed, filtered (no answer) or open. A name stands
for all its addresses, and :8080 for port 8080 at this machine's addresses other than
loopback. Check sends a TLS ClientHello and one GET / without credentials. Exit code 4
means that an address is open. Exit code 1 means that an address is the gate itself, or
that a name has no address. A wrong address is filtered too, so first try an address
that is open. Check does not test the access of other containers of the pod, of pods on
the host's network and of kubectl port-forward.`,
		Example: "  tallygate check --config tallygate.yaml\n  tallygate check --online\n  render-config | tallygate check --config - -o json\n  tallygate check --bypass accounts.accounts.svc:8080 10.1.2.3:8080",
		Args: func(command *cobra.Command, args []string) error {
			if len(around) > 0 {
				return nil // further addresses
			}
			return cobra.NoArgs(command, args)
		},
		RunE: func(command *cobra.Command, args []string) error {
			if len(around) > 0 {
				return checkBypass(command.Context(), append(around, args...), *format, command.OutOrStdout())
			}
			found, err := check(command.Context(), file, command.InOrStdin(), online)
			if err != nil {
				return err
			}
			if *format == jsonOutput {
				return found.printJSON(command.OutOrStdout())
			}
			return found.print(command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	configFlag(command, &file)
	format = outputFlag(command)
	command.Flags().BoolVar(&online, "online", false, "also fetch metadata, keys and revocation lists, and check credentials")
	command.Flags().StringSliceVar(&around, "bypass", nil, "connect to the API's `address` host:port past the gate; can be repeated")
	command.MarkFlagsMutuallyExclusive("bypass", "config")
	command.MarkFlagsMutuallyExclusive("bypass", "online")
	return command
}

// findings is the result of check.
type findings struct {
	file        string
	cfg         *config.Config
	faults      config.Faults
	warnings    config.Faults
	notEnforced []string
	online      error // the error of the checks of --online
}

// stdinName is the name of standard input in positions.
const stdinName = "stdin"

// check reads the configuration in file, or in stdin if file is "-", and everything that it names. The
// error says why the configuration could not be read.
func check(ctx context.Context, file string, stdin io.Reader, online bool) (*findings, error) {
	read := func() ([]byte, string, error) { return config.ReadText(file) }
	if file == "-" {
		file, read = stdinName, func() ([]byte, string, error) { return config.ReadTextFrom(stdin) }
	}
	text, dir, err := read()
	if err != nil {
		return nil, withCode(exitConfiguration, err)
	}
	found := &findings{file: file}
	found.cfg, err = config.Examine(file, dir, text)
	if err != nil && !errors.As(err, &found.faults) {
		return nil, withCode(exitConfiguration, err)
	}
	valid := err == nil
	found.faults = append(found.faults, configcheck.Files(found.cfg)...)
	if !valid { // no state can be built from an invalid configuration
		return found, nil
	}
	found.warnings, found.notEnforced = configcheck.Warnings(found.cfg, time.Now()), configcheck.NotEnforced(found.cfg)
	s, err := gate.Load(found.cfg, slog.New(configcheck.NewWarningLog(&found.warnings)), gate.LoadOptions{})
	if err != nil {
		found.faults = configcheck.Add(found.faults, found.cfg, err)
		return found, nil
	}
	defer s.Close()
	if online && len(found.faults) == 0 {
		found.online = errors.Join(s.ReadOnce(ctx), s.Validator.CheckCredentials(ctx))
		if s.Issuer != nil {
			found.online = errors.Join(found.online, s.Issuer.CheckDatabase(ctx))
		}
	}
	return found, nil
}

// print writes the findings as text, and returns the error for the exit code.
func (f *findings) print(stdout, stderr io.Writer) error {
	for _, w := range f.warnings {
		fmt.Fprintln(stderr, "warning: "+w.Error())
	}
	switch {
	case len(f.faults) > 0:
		fmt.Fprintln(stderr, f.faults.Err())
		fmt.Fprintln(stderr, f.counts())
		return withCode(exitConfiguration, errReported)
	case f.online != nil:
		return f.online
	}
	for _, check := range f.notEnforced {
		fmt.Fprintln(stdout, "not enforced: "+check)
	}
	if len(f.warnings) > 0 {
		fmt.Fprintln(stderr, f.counts())
	}
	_, err := fmt.Fprintf(stdout, "%s is valid: %d APIs, %d partners, %d authorization servers\n",
		f.file, len(f.cfg.APIs), len(f.cfg.Partners.List), len(f.cfg.AuthorizationServers))
	return err
}

// counts returns the numbers of faults and warnings in words, without a number of 0.
func (f *findings) counts() string {
	var parts []string
	if n := len(f.faults); n > 0 {
		parts = append(parts, count(n, "fault"))
	}
	if n := len(f.warnings); n > 0 {
		parts = append(parts, count(n, "warning"))
	}
	return strings.Join(parts, ", ")
}

// count returns n with noun in the singular or the plural: "1 fault", "2 faults".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
