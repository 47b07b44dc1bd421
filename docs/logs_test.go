package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A logUse collects the messages and keys of the calls of log/slog in the tree.
type logUse struct {
	messages map[string]string // message: its level, or "" if it varies
	keys     map[string]string // key: a file that uses it
}

// levels are the methods of *slog.Logger that log at a fixed level.
var levels = map[string]string{"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error"}

// attributes are the functions of log/slog whose first argument is a key.
var attributes = []string{"String", "Int", "Int64", "Float64", "Bool", "Any", "Time", "Duration"}

// logUses returns the messages and keys that the program logs. Messages and keys are constant: the linter
// sloglint demands it.
func logUses(t *testing.T) logUse {
	t.Helper()
	use := logUse{map[string]string{}, map[string]string{}}
	sources(t, func(path string, content []byte) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "bench/") || strings.HasPrefix(path, "charts/") {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, content, 0)
		if err != nil {
			t.Errorf("parsing %s: %v", path, err)
			return
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				use.add(path, call)
			}
			return true
		})
	})
	return use
}

// add adds the message and the keys of call, if it is a call of log/slog.
func (u *logUse) add(path string, call *ast.CallExpr) {
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	name, receiver := function.Sel.Name, ""
	if x, ok := function.X.(*ast.Ident); ok {
		receiver = x.Name
	}
	arguments, level := call.Args, ""
	switch short := strings.TrimSuffix(name, "Context"); {
	case receiver == "slog" && slices.Contains(attributes, name):
		u.addKey(path, arguments[0])
		return
	case receiver == "http", len(arguments) == 0:
		return
	case name == "LogAttrs" && len(arguments) > 2:
		arguments = arguments[2:]
	case levels[short] != "":
		level = levels[short]
		if short != name {
			arguments = arguments[1:]
		}
	case name == "With":
		for i := 0; i < len(arguments); i += 2 {
			u.addKey(path, arguments[i])
		}
		return
	default:
		return
	}
	message, ok := text(arguments[0])
	if !ok {
		return // the message of a library, or a method of another type
	}
	if known, found := u.messages[message]; found && known != level {
		level = ""
	}
	u.messages[message] = level
	for i := 1; i < len(arguments); i++ {
		if u.addKey(path, arguments[i]) {
			i++ // the value
		}
	}
}

// addKey adds a key that is a constant text, and reports whether key is one.
func (u *logUse) addKey(path string, key ast.Expr) bool {
	text, ok := text(key)
	if ok {
		u.keys[text] = path
	}
	return ok
}

func text(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(literal.Value)
	return s, err == nil
}

// logPage returns the rows of logs.md: the level of each message, and the type of each key.
func logPage(t *testing.T) (messages, keys map[string]string) {
	t.Helper()
	page, err := os.ReadFile("logs.md")
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(page), "\n## Messages\n")
	_, before, _ = strings.Cut(before, "\n## Keys\n")
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([a-z, ]+) \\|")
	read := func(text string) map[string]string {
		rows := map[string]string{}
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			if _, twice := rows[m[1]]; twice {
				t.Errorf("logs.md has two rows for %s", m[1])
			}
			rows[m[1]] = m[2]
		}
		return rows
	}
	return read(after), read(before)
}

// logs.md has exactly the messages of the log, with their levels, and exactly the keys.
func TestLogSchema(t *testing.T) {
	use := logUses(t)
	messages, keys := logPage(t)
	if len(use.messages) < 40 || len(use.keys) < 40 {
		t.Fatalf("found %d messages and %d keys in the code, want at least 40 of each", len(use.messages), len(use.keys))
	}
	for _, message := range slices.Sorted(maps.Keys(use.messages)) {
		switch level := use.messages[message]; {
		case messages[message] == "":
			t.Errorf("logs.md lacks the message: | `%s` | %s |", message, level)
		case level != "" && messages[message] != level:
			t.Errorf("logs.md has level %s for %q, want %s", messages[message], message, level)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(use.keys)) {
		if keys[key] == "" {
			t.Errorf("logs.md lacks the key %s of %s", key, use.keys[key])
		}
	}
	for message := range messages {
		if _, used := use.messages[message]; !used {
			t.Errorf("logs.md has the message %q, which no code logs", message)
		}
	}
	for key := range keys {
		if use.keys[key] == "" && !slices.Contains([]string{"time", "level", "msg", "san_dns", "san_email", "san_ip", "san_uri"}, key) {
			t.Errorf("logs.md has the key %s, which no code logs", key)
		}
	}
	// One thing has one name.
	for _, retired := range []string{"err", "detail", "took", "duration", "duration_us", "source_address", "addr", "remote_addr", "jti", "jti_sha256"} {
		if file := use.keys[retired]; file != "" {
			t.Errorf("%s logs the key %s, which has another name in logs.md", file, retired)
		}
	}
}
