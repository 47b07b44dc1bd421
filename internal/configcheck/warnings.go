package configcheck

import (
	"fmt"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// Warnings returns valid settings in cfg that will cause trouble, in the order of the file. cfg must be
// valid. now is compared with the validity of certificates. There are no warnings about a file that
// cannot be read, because [Files] reports the file.
func Warnings(cfg *config.Config, now time.Time) config.Faults {
	e := &examiner{cfg: cfg, now: now, anchors: make(map[config.Path][]pemfile.Certificate)}
	e.gateCertificates()
	e.allAnchors()
	e.routes()
	e.partners()
	e.unused()
	e.folders()
	if len(e.warnings) == 0 {
		return nil
	}
	_ = e.warnings.Err() // Err sorts the warnings
	return e.warnings
}

// An examiner collects warnings about a configuration.
type examiner struct {
	cfg      *config.Config
	now      time.Time
	anchors  map[config.Path][]pemfile.Certificate // the certificates of anchor files that were read
	warnings config.Faults
}

// warn records a warning about the setting at path.
func (e *examiner) warn(path, format string, args ...any) {
	e.warnings = append(e.warnings, config.Fault{Position: e.cfg.Position(path), Path: path, Message: fmt.Sprintf(format, args...)})
}

// authorities returns the certificates in file. It reads each file only once.
func (e *examiner) authorities(file config.Path) []pemfile.Certificate {
	read, ok := e.anchors[file]
	if !ok {
		read, _ = pemfile.ReadAuthorities(string(file)) // Files reports the error
		e.anchors[file] = read
	}
	return read
}
