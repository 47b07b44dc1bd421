// Package cli has the commands of tallygate: their flags, their output and their exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
)

// The groups of commands in the help text.
const (
	gateGroup   = "gate"
	issuerGroup = "issuer"
	clientGroup = "client"
	otherGroup  = "other"
)

const rootHelp = `tallygate is a gate in front of partner APIs. It forwards a request only if the access
token is bound to the client certificate (RFC 8705), the token is valid, and the
partner's application may call the API.

With --config and without a command, tallygate serves.

Data goes to standard output, messages to standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid configuration, 4 refused.`

// tallygate prints introduction if it is called without arguments: a description of the program, and the first
// command to run.
const introduction = `tallygate is a gate in front of partner APIs. It forwards a request only if the access
token is bound to the client certificate (RFC 8705), the token is valid, and the
partner's application may call the API.

Begin with one of these:

  tallygate demo                          see it work on loopback; nothing to prepare
  tallygate init gate                     write a first configuration into the folder gate
  tallygate check --config gate/tallygate.yaml
                                          validate a configuration

tallygate --help lists all commands.
`

// Run executes the command in args and returns the exit code. It may be called repeatedly, but not
// concurrently.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	// net/http logs to the standard logger. Its lines quote data that an upstream sends while no
	// request is pending.
	log.SetOutput(io.Discard)
	root := rootCommand()
	root.SetArgs(append([]string{}, args...)) // cobra would use os.Args for nil
	root.SetOut(stdout)
	root.SetErr(stderr)
	addCompletion(root) // called after SetOut, because cobra gives the completion command the output that root has at this time
	started := false
	markStart(root, &started)

	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if !started {
		err = withCode(exitUsage, err)
	}
	report(stderr, err)
	code := exitCode(err)
	if code == exitUsage {
		fmt.Fprintf(stderr, "see %s --help\n", cmd.CommandPath())
	}
	return code
}

// Commands returns the tree of all commands, for manual pages and shell completions.
func Commands() *cobra.Command {
	root := rootCommand()
	addCompletion(root)
	return root
}

func rootCommand() *cobra.Command {
	serve := serveCommand()
	root := &cobra.Command{
		Use:           "tallygate",
		Short:         "A gate for certificate-bound access tokens",
		Long:          rootHelp,
		Example:       "  tallygate demo\n  tallygate init gate\n  tallygate check --config tallygate.yaml\n  tallygate serve --config tallygate.yaml",
		SilenceErrors: true, // Run prints the errors
		SilenceUsage:  true, // Run prints a line that names --help instead
	}
	version := versionCommand()
	showVersion := root.Flags().Bool("version", false, "print the version and the build")
	root.Flags().AddFlagSet(serve.Flags())
	root.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *showVersion:
			version.SetOut(cmd.OutOrStdout())
			version.SetErr(cmd.ErrOrStderr())
			return version.RunE(version, args)
		case cmd.Flags().Changed("config"):
			return serve.RunE(cmd, args)
		}
		_, err := io.WriteString(cmd.OutOrStdout(), introduction)
		return err
	}
	root.AddGroup(
		&cobra.Group{ID: gateGroup, Title: "Run the gate:"},
		&cobra.Group{ID: issuerGroup, Title: "Run the issuer:"},
		&cobra.Group{ID: clientGroup, Title: "For partners:"},
		&cobra.Group{ID: otherGroup, Title: "Other:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(gateGroup, serve, checkCommand(), schemaCommand(), configureServerCommand(), explainCommand(), drainCommand(), healthcheckCommand(), demoCommand(), initCommand(), injectCommand(), uninjectCommand())
	add(issuerGroup, revokeCommand(), revocationsCommand(), keysCommand(), issuerCommand())
	add(clientGroup, tokenCommand(), thumbprintCommand())
	add(otherGroup, version)
	root.SetHelpCommandGroupID(otherGroup)
	root.SetCompletionCommandGroupID(otherGroup)
	return root
}

// addCompletion adds cobra's completion command and refuses unknown shells. cobra itself would print
// its help for an unknown shell to standard output with exit code 0, and the help would end up in a
// completion script.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.RunE = func(*cobra.Command, []string) error {
				return withCode(exitUsage, errors.New("name a shell: bash, zsh, fish or powershell"))
			}
		}
	}
}

// markStart sets started when cmd or a command below it begins to run. Cobra's errors about commands,
// flags and arguments have no type of their own, so the caller takes every error before the start as a
// usage error.
func markStart(cmd *cobra.Command, started *bool) {
	if begin := cmd.RunE; begin != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return begin(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		markStart(c, started)
	}
}

// An outputFormat is the value of the flag -o.
type outputFormat string

const (
	textOutput outputFormat = "text"
	jsonOutput outputFormat = "json"
)

// outputFlag adds the flag -o to cmd.
func outputFlag(cmd *cobra.Command) *outputFormat {
	format := textOutput
	cmd.Flags().VarP(&format, "output", "o", "text or json")
	// fails only for an unknown flag or a second completion
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]cobra.Completion{string(textOutput), string(jsonOutput)}, cobra.ShellCompDirectiveNoFileComp))
	return &format
}

// String returns the value of the flag.
func (f *outputFormat) String() string { return string(*f) }

// Type returns the name of the value in the help text.
func (f *outputFormat) Type() string { return "format" }

// Set accepts text and json.
func (f *outputFormat) Set(s string) error {
	switch given := outputFormat(s); given {
	case textOutput, jsonOutput:
		*f = given
		return nil
	}
	return fmt.Errorf("must be %s or %s", textOutput, jsonOutput)
}

// writeJSON writes v as indented JSON and a line break.
func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
