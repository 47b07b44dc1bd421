package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap/zapcore"
)

// A slogCore writes the log lines of certmagic, which uses zap, to an slog handler.
type slogCore struct{ handler slog.Handler }

// Enabled reports whether the handler writes lines of the level.
func (c slogCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), slogLevel(level))
}

// With returns a core that adds fields to each line.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.handler.WithAttrs(attributes(fields))}
}

// Check adds c to checked if the handler writes the level of entry.
func (c slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write writes one line.
func (c slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(entry.Time, slogLevel(entry.Level), entry.Message, 0)
	record.AddAttrs(slog.String("logger", entry.LoggerName))
	record.AddAttrs(attributes(fields)...)
	return c.handler.Handle(context.Background(), record)
}

// Sync does nothing: lines are not buffered.
func (c slogCore) Sync() error { return nil }

func slogLevel(level zapcore.Level) slog.Level {
	switch level {
	case zapcore.DebugLevel:
		return slog.LevelDebug
	case zapcore.InfoLevel:
		return slog.LevelInfo
	case zapcore.WarnLevel:
		return slog.LevelWarn
	case zapcore.ErrorLevel, zapcore.DPanicLevel, zapcore.PanicLevel, zapcore.FatalLevel, zapcore.InvalidLevel:
	}
	return slog.LevelError
}

// omittedFields are the fields of debug lines that hold HTTP headers. These contain nonces and other
// text of the authority.
var omittedFields = []string{"headers", "response_headers"}

func attributes(fields []zapcore.Field) []slog.Attr {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		if !slices.Contains(omittedFields, f.Key) {
			f.AddTo(encoder)
		}
	}
	attributes := make([]slog.Attr, 0, len(encoder.Fields))
	for _, key := range slices.Sorted(maps.Keys(encoder.Fields)) {
		value := encoder.Fields[key]
		if d, ok := value.(time.Duration); ok {
			value = d.String() // durations in our log have this form
		}
		attributes = append(attributes, slog.Any(key, value))
	}
	return attributes
}
