package cli

import (
	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/demo"
)

const demoHelp = `Demo shows tallygate on loopback without preparation. It creates certificates, two
partners with an application each and an API, starts the issuer and the gate, and plays
a tour over real sockets. Each step shows the request, the response and the reason.

After the tour the demo keeps running and prints commands to paste. With --tour it ends
after the tour; the exit code is 0 only if every step had the expected result. --dir
keeps the certificates, the configuration and the gate's log.`

func demoCommand() *cobra.Command {
	var (
		tour bool
		dir  string
	)
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "See the gate at work without preparation",
		Long:    demoHelp,
		Example: "  tallygate demo\n  tallygate demo --tour\n  tallygate demo --dir ./demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), cmd.OutOrStdout(), dir, tour)
		},
	}
	cmd.Flags().BoolVar(&tour, "tour", false, "end after the tour")
	cmd.Flags().StringVar(&dir, "dir", "", "keep the demo's files in this `folder` (default: a temporary one, removed at the end)")
	_ = cmd.MarkFlagDirname("dir") // fails only for an unknown flag
	return cmd
}
