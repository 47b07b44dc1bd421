package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/explain"
)

// maxLogLine bounds a line of the log: each of some 30 values of it has at most 256 bytes, which JSON
// escapes to 6 times as many.
const maxLogLine = 64 << 10

// explainLogLine prints an explanation of a line of the log. Without --config, the configuration is used if
// it can be read.
func explainLogLine(command *cobra.Command, f explainFlags, format outputFormat) error {
	text, err := readInput(f.logLine, command.InOrStdin(), maxLogLine)
	if err != nil {
		return fmt.Errorf("reading the line: %w", err)
	}
	fields, err := explain.ParseLogLine(text)
	if err != nil {
		return withCode(exitUsage, err)
	}
	cfg, err := loadConfig(f.file)
	if err != nil && command.Flags().Changed("config") {
		return err
	}
	if err != nil {
		fmt.Fprintf(command.ErrOrStderr(), "without the configuration, because %s cannot be used: name it with --config\n", f.file)
		cfg = nil
	}
	l := explain.ExplainLogLine(fields, cfg)
	if format == jsonOutput {
		return writeJSON(command.OutOrStdout(), l)
	}
	_, err = io.WriteString(command.OutOrStdout(), l.Text())
	return err
}
