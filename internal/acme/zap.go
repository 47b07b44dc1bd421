package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap/zapcore"
)

// A slogCore writes what certmagic says, which speaks zap, to our log, level by level.
type slogCore struct{ handler slog.Handler }

// Enabled reports whether the log takes lines of that level.
func (c slogCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), slogLevel(level))
}

// With returns a core with fields in each line.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.handler.WithAttrs(attributes(fields))}
}

// Check adds c to those that write entry, if the log takes it.
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

// Sync does nothing: no line waits.
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

// unlogged are fields of HTTP messages to the authority, at debug: nonces, and whatever
// else an authority puts there.
var unlogged = []string{"headers", "response_headers"}

func attributes(fields []zapcore.Field) []slog.Attr {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		if !slices.Contains(unlogged, f.Key) {
			f.AddTo(encoder)
		}
	}
	attributes := make([]slog.Attr, 0, len(encoder.Fields))
	for _, key := range slices.Sorted(maps.Keys(encoder.Fields)) {
		value := encoder.Fields[key]
		if d, ok := value.(time.Duration); ok {
			value = d.String() // as everywhere in our log
		}
		attributes = append(attributes, slog.Any(key, value))
	}
	return attributes
}
