package configcheck

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/tallygate/tallygate/config"
)

// A WarningLog is a [slog.Handler] that keeps warnings for the list of check. The warnings are those
// that serve logs when it builds the gate's state. It is not safe for concurrent use.
type WarningLog struct {
	kept  *config.Faults
	attrs []slog.Attr
}

// NewWarningLog returns a handler that appends to kept.
func NewWarningLog(kept *config.Faults) *WarningLog { return &WarningLog{kept: kept} }

// Enabled reports whether level is at least a warning.
func (w *WarningLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// Handle keeps r with its attributes as text.
func (w *WarningLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s %s", a.Key, a.Value)
		return true
	}
	for _, a := range w.attrs {
		add(a)
	}
	r.Attrs(add)
	*w.kept = append(*w.kept, config.Fault{Message: text})
	return nil
}

// WithAttrs returns a handler that adds attrs to each warning.
func (w *WarningLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &WarningLog{w.kept, append(w.attrs[:len(w.attrs):len(w.attrs)], attrs...)}
}

// WithGroup returns w: the gate's state logs no groups.
func (w *WarningLog) WithGroup(string) slog.Handler { return w }
