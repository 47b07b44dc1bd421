package configcheck

import (
	"regexp"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// Add returns faults together with the faults in err, the error of building the gate's state from cfg.
// Each line of err becomes a fault. The position of the fault is the position of the setting whose file
// the line names, or of the setting that the line begins with. Add omits a line about a file that
// already has a fault in faults.
func Add(faults config.Faults, cfg *config.Config, err error) config.Faults {
	named, reported := cfg.NamedFiles(), make(map[string]bool)
	for _, f := range faults {
		reported[f.Path] = true
	}
	added := faults
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fault := config.Fault{Message: line}
		if setting := settingOf(named, line); setting != "" {
			if reported[setting] {
				continue
			}
			fault.Path, fault.Position = setting, cfg.Position(setting)
		} else if path := beginning.FindString(line); path != "" {
			fault.Path, fault.Position = strings.TrimSuffix(path, ": "), cfg.Position(strings.TrimSuffix(path, ": "))
			fault.Message = line[len(path):]
		}
		added = append(added, fault)
	}
	return added
}

// beginning matches the path of a setting, at least a section and a key, at the beginning of a message.
var beginning = regexp.MustCompile(`^[a-z_]+(\[\d+\])?(\.[a-z_]+(\[\d+\])?)+: `)

// settingOf returns the path of the setting whose file line names first, or "". If several file names
// match at the same position in line, the longest name is taken, because a file name can be the
// beginning of another file name.
func settingOf(named []config.NamedFile, line string) (setting string) {
	first, longest := len(line), 0
	for _, n := range named {
		at := strings.Index(line, n.File)
		if at >= 0 && (at < first || at == first && len(n.File) > longest) {
			setting, first, longest = n.Setting, at, len(n.File)
		}
	}
	return setting
}
