package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/inject"
)

const injectHelp = `Inject adds the gate as a sidecar to the pods of Deployments, StatefulSets, DaemonSets,
ReplicaSets, Jobs, CronJobs and Pods, also inside a List. It reads YAML or JSON from
files, from folders with all their subfolders, or from standard input (-), and writes
all documents to standard output. Documents that it does not change keep every byte.
Changed documents keep their comments, order and unknown fields. The report goes to
standard error.

Each workload gets the container and the volumes of the Helm chart, a NetworkPolicy that
closes all ports but the gate's, a preStop for the application and enough time to stop.
The ConfigMap must have the gate's configuration as tallygate.yaml, with listener.address
":8443", the certificate files /etc/tallygate/tls/tls.crt and tls.key, and admin.address
":9090".

Other pods cannot reach an application that binds to loopback: name the variable or
argument for that with --loopback-env or --loopback-arg. The kubelet cannot reach the
application there either, so its probes then go to the gate's admin port, and the gate
calls the application (serve --application-probe).

Annotations of the pod template or the workload take precedence over the flags:
tallygate.dev/app-port, tallygate.dev/app-container, and tallygate.dev/inject: disabled,
which leaves a workload unchanged. Inject records its changes in the annotation
tallygate.dev/injected, which uninject and a second inject read.

Exit code 3 means that inject cannot protect a workload, for example because of
hostNetwork, host ports, Windows nodes, or names and ports that the gate needs. Inject
then prints all faults of all files with file, line and column, and writes nothing.`

func injectCommand() *cobra.Command {
	var options inject.Options
	var target manifestTarget
	command := &cobra.Command{
		Use:   "inject FILE|FOLDER|- ...",
		Short: "Add the gate to the pods of Kubernetes manifests",
		Long:  injectHelp,
		Example: `  tallygate inject --image registry.example/tallygate:1 accounts.yaml | kubectl apply -f -
  tallygate inject --image registry.example/tallygate:1 --service --loopback-env SERVER_ADDRESS=127.0.0.1 --dry-run=diff k8s/
  kubectl get deployments -o yaml | tallygate inject --image registry.example/tallygate:1 -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, sources []string) error {
			if err := options.Validate(); err != nil {
				return withCode(exitUsage, err)
			}
			return target.change(command, sources, func(files []inject.File) (*inject.Result, error) {
				return inject.Inject(files, &options)
			})
		},
	}
	options.AddFlags(command.Flags())
	_ = command.RegisterFlagCompletionFunc("probes", cobra.FixedCompletions(
		[]cobra.Completion{string(inject.ProbesKeep), string(inject.ProbesForward)}, cobra.ShellCompDirectiveNoFileComp))
	target.flags(command)
	return command
}

func uninjectCommand() *cobra.Command {
	var target manifestTarget
	command := &cobra.Command{
		Use:   "uninject FILE|FOLDER|- ...",
		Short: "Remove the gate from the pods of Kubernetes manifests",
		Long: `Uninject removes what inject added, and restores what inject replaced: probes, target
ports, variables, arguments and the time to stop. From the result of inject, it restores
the input of inject byte for byte.`,
		Example: "  tallygate uninject accounts.yaml | kubectl apply -f -\n  tallygate uninject --in-place k8s/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, sources []string) error {
			return target.change(command, sources, inject.Uninject)
		},
	}
	target.flags(command)
	return command
}

// A manifestTarget says where changed manifests go.
type manifestTarget struct {
	inPlace bool
	dryRun  string
}

func (m *manifestTarget) flags(command *cobra.Command) {
	command.Flags().BoolVar(&m.inPlace, "in-place", false, "write the changed files back instead of standard output")
	command.Flags().StringVar(&m.dryRun, "dry-run", "", "print what would change instead of the result: `diff`")
	_ = command.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]cobra.Completion{"diff"}, cobra.ShellCompDirectiveNoFileComp))
	command.MarkFlagsMutuallyExclusive("in-place", "dry-run")
}

// change reads the manifests of sources, changes them and writes the result. It writes nothing if change
// returns an error.
func (m *manifestTarget) change(command *cobra.Command, sources []string, change func([]inject.File) (*inject.Result, error)) error {
	if m.dryRun != "" && m.dryRun != "diff" {
		return withCode(exitUsage, errors.New("--dry-run must be diff"))
	}
	if m.inPlace && slices.Contains(sources, "-") {
		return withCode(exitUsage, errors.New("--in-place needs files, not standard input"))
	}
	before, err := readManifests(sources, command.InOrStdin())
	if err != nil {
		return err
	}
	result, err := change(before)
	if err != nil {
		return err
	}
	for _, line := range result.Report {
		fmt.Fprintln(command.ErrOrStderr(), line)
	}
	switch {
	case m.inPlace:
		return writeManifests(before, result.Files)
	case m.dryRun != "":
		for i, f := range result.Files {
			if _, err := command.OutOrStdout().Write(diff.Diff(f.Name, before[i].Text, f.Name, f.Text)); err != nil {
				return err
			}
		}
		return nil
	}
	_, err = command.OutOrStdout().Write(joinManifests(result.Files))
	return err
}

// readManifests reads files, the files of folders, and standard input for "-".
func readManifests(sources []string, stdin io.Reader) ([]inject.File, error) {
	var files []inject.File
	for _, source := range sources {
		names, err := manifestsIn(source)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := readInput(name, stdin, inject.MaxBytes)
			if err != nil {
				return nil, fmt.Errorf("reading manifests: %w", err)
			}
			if name == "-" {
				name = stdinName
			}
			files = append(files, inject.File{Name: name, Text: text})
		}
	}
	return files, nil
}

// manifestsIn returns the files with manifests in the folder source and below it, or source itself if
// source is not a folder. It skips hidden files and folders.
func manifestsIn(source string) ([]string, error) {
	if source == "-" {
		return []string{source}, nil
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	if !info.IsDir() {
		return []string{source}, nil
	}
	var names []string
	err = filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch hidden := strings.HasPrefix(entry.Name(), ".") && path != source; {
		case hidden && entry.IsDir():
			return fs.SkipDir
		case !hidden && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
			names = append(names, path)
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s has no file with the ending .yaml, .yml or .json", source)
	}
	return names, err
}

// joinManifests returns the text of all files as one stream of documents.
func joinManifests(files []inject.File) []byte {
	var b bytes.Buffer
	for i, f := range files {
		if i > 0 && !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
			b.WriteByte('\n')
		}
		first, _, _ := bytes.Cut(f.Text, []byte("\n"))
		if mark, _, _ := strings.Cut(strings.TrimRight(string(first), "\r"), " "); i > 0 && mark != "---" {
			b.WriteString("---\n")
		}
		b.Write(f.Text)
	}
	return b.Bytes()
}

// writeManifests writes the files that have changed. It replaces each file as a whole, by a rename.
func writeManifests(before, after []inject.File) error {
	for i, f := range after {
		if bytes.Equal(before[i].Text, f.Text) {
			continue
		}
		if err := replaceFile(f.Name, f.Text); err != nil {
			return fmt.Errorf("writing %s: %w", f.Name, err)
		}
	}
	return nil
}

func replaceFile(name string, text []byte) error {
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(target), ".tallygate-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(next.Name()) }() // after the rename, Remove fails and does nothing
	_, err = next.Write(text)
	err = errors.Join(err, next.Chmod(info.Mode().Perm()), next.Close())
	if err != nil {
		return err
	}
	return os.Rename(next.Name(), target)
}
