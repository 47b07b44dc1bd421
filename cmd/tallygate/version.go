package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set for a release by -ldflags "-X main.version=1.2.3".
var version string

// A build says what this program was built from. Members that are not known are
// empty: a program from "go run" or from a test names no revision.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"` // the work tree differed from the revision
	Go       string `json:"go"`
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print what this program was built from",
		Long: `Version prints the version, the revision and the Go release that this program was
built from. A warning on standard error says that this Go release has known holes.`,
		Example: "  tallygate version\n  tallygate version -o json",
		Args:    cobra.NoArgs,
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := buildInfo()
		if warning := outdatedWarning(runtime.Version()); warning != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", warning)
		}
		if *format == jsonOutput {
			return writeJSON(cmd.OutOrStdout(), b)
		}
		if b.Revision == "" {
			b.Revision = "unknown"
		}
		if b.Modified {
			b.Revision += " (modified)"
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "version   %s\nrevision  %s\ngo        %s\n", b.Version, b.Revision, b.Go)
		return err
	}
	return cmd
}

func buildInfo() build {
	b := build{Version: version}
	built, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = built.GoVersion
	if b.Version == "" {
		b.Version = built.Main.Version
	}
	for _, s := range built.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
