package config

import (
	"encoding"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// isScalar reports whether what target points to is written as one word.
func isScalar(target any) bool {
	switch target.(type) {
	case encoding.TextUnmarshaler, *time.Duration, *bool, *int, *string:
		return true
	}
	return false
}

// scalar sets what target points to from n. Text is taken as it stands, also where
// YAML would read a number or a truth in it: a version may be written 1.2, a name
// yes. No placeholder in it is expanded.
func (d *decoder) scalar(n *node, target any) {
	if n.Kind != scalarNode || n.Tag == nullTag {
		d.fail(n, "expected %s, got %s", wanted(target), found(n))
		return
	}
	if err := setScalar(n, target); err != nil {
		d.fail(n, "%v", err)
	}
}

func setScalar(n *node, target any) (err error) {
	switch t := target.(type) {
	case *slog.Level:
		return setLevel(t, n.Value)
	case encoding.TextUnmarshaler:
		return t.UnmarshalText([]byte(n.Value))
	case *time.Duration:
		*t, err = time.ParseDuration(n.Value)
	case *bool:
		if *t = strings.EqualFold(n.Value, "true"); n.Tag != boolTag {
			err = strconv.ErrSyntax
		}
	case *int:
		// Decimal only: a reader may take 010 for eight or for ten.
		if *t, err = strconv.Atoi(n.Value); n.Tag != intTag || strconv.Itoa(*t) != n.Value {
			err = strconv.ErrSyntax
		}
	case *string:
		*t = n.Value
	}
	if err != nil {
		return errors.New("expected " + wanted(target) + ", got " + quote(n.Value))
	}
	return nil
}

// setLevel reads a log level. The offsets that slog reads, such as info+2, are not
// levels of ours.
func setLevel(l *slog.Level, text string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[text]
	if !ok {
		return errors.New("expected debug, info, warn or error, got " + quote(text))
	}
	*l = level
	return nil
}

// wanted names, for a message, what target takes.
func wanted(target any) string {
	switch target.(type) {
	case *time.Duration:
		return "a duration with its unit, such as 30s"
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	}
	return "text"
}

// found names what n is.
func found(n *node) string {
	switch {
	case n.Kind == mappingNode:
		return "a mapping"
	case n.Kind == listNode:
		return "a list"
	case n.Tag == nullTag:
		return "nothing"
	case n.Tag == boolTag:
		return "true or false"
	case n.Tag == intTag || n.Tag == floatTag:
		return "a number"
	}
	return "text"
}

// expect reports whether n is a mapping or a list, as kind says, and records a
// fault if it is not.
func (d *decoder) expect(n *node, kind kind) bool {
	if n.Kind == kind {
		return true
	}
	name := "a mapping"
	if kind == listNode {
		name = "a list"
	}
	d.fail(n, "expected %s, got %s", name, found(n))
	return false
}
