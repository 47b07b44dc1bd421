// Package buildinfo describes the build of the program, and knows which Go releases have security
// holes.
package buildinfo

import "runtime/debug"

// Version is set for a release by -ldflags "-X
// github.com/tallygate/tallygate/internal/buildinfo.Version=1.2.3".
var Version string

// Info describes the build. Unknown members are empty: a program that "go run" or a test has built
// has no revision.
type Info struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"` // the work tree had changes that are not in the revision
	Go       string `json:"go"`
}

func Read() Info {
	b := Info{Version: Version}
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
