package configcheck

import (
	"regexp"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// Add returns faults with the faults in err, the error of building the gate's state from cfg. Each line
// of err is a fault, at the position of the setting whose file it names, or of the setting that it
// begins with. A line about a file that has a fault in faults already is left out.
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

// settingOf returns the path of the setting whose file line names first, or "". Among files at the same
// position in line it takes the longest name, because a name can be the beginning of another.
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
