package acme

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// Lines of certmagic are written completely, with their level, except HTTP headers. The level of the log may
// change.
func TestSlogCore(t *testing.T) {
	var text bytes.Buffer
	var level slog.LevelVar
	level.Set(slog.LevelDebug)
	log := zap.New(slogCore{slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: &level})}).Named("acme")
	said := func(say func()) map[string]any {
		t.Helper()
		text.Reset()
		say()
		if text.Len() == 0 {
			return nil
		}
		var line map[string]any
		if err := json.Unmarshal(text.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		delete(line, "time")
		return line
	}
	type fields = map[string]any
	check := func(what string, got, want fields) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	named := log.Named("renew").With(zap.Strings("identifiers", []string{"a.example"}))
	check("warn", said(func() {
		named.Warn("renewing", zap.Duration("remaining", 90*time.Second), zap.Error(errors.New("no answer")))
	}), fields{"level": "WARN", "msg": "renewing", "logger": "acme.renew", "identifiers": []any{"a.example"}, "remaining": "1m30s", "error": "no answer"})
	check("debug", said(func() {
		log.Debug("http request", zap.Any("headers", http.Header{"A": {"secret"}}), zap.Any("response_headers", http.Header{"Replay-Nonce": {"secret"}}), zap.Int("status_code", 200))
	}), fields{"level": "DEBUG", "msg": "http request", "logger": "acme", "status_code": 200.0})
	check("info", said(func() { log.Info("x") }), fields{"level": "INFO", "msg": "x", "logger": "acme"})
	check("error", said(func() { log.Error("x") }), fields{"level": "ERROR", "msg": "x", "logger": "acme"})
	check("worse", said(func() { log.DPanic("x") }), fields{"level": "ERROR", "msg": "x", "logger": "acme"})
	level.Set(slog.LevelWarn)
	check("too little", said(func() { log.Info("x") }), nil)
	check("enough", said(func() { log.Warn("x") }), fields{"level": "WARN", "msg": "x", "logger": "acme"})
}
