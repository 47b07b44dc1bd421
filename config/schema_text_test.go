package config

import (
	"encoding"
	"errors"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// isText reports whether the decoder reads values of the type from one text.
func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || t == reflect.TypeFor[time.Duration]() || parserOf(t) != nil
}

func hasKeys(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != ""
}

// parserOf returns the parser of a new value of the type, or nil.
func parserOf(t reflect.Type) encoding.TextUnmarshaler {
	v := reflect.New(t).Interface()
	if p := textOf(v); p != nil {
		return p
	}
	p, _ := v.(encoding.TextUnmarshaler)
	return p
}

// parse returns the error of the type's parser for a text.
func parse(t reflect.Type, text string) error {
	if t == reflect.TypeFor[time.Duration]() {
		_, err := time.ParseDuration(text)
		return err
	}
	if p := parserOf(t); p != nil {
		return p.UnmarshalText([]byte(text))
	}
	return nil
}

// text returns the schema of a type that is read from a text. It tries texts with the type's parser:
// the values of an enumeration, numbers without quotation marks, and empty text.
func (m *schemaMaker) text(t reflect.Type, optional bool) schemaNode {
	node := schemaNode{Type: "string"}
	if values := enumeration(t); values != nil {
		var numbers []any
		for _, value := range values {
			node.Enum = append(node.Enum, value)
			if n, err := strconv.ParseFloat(value, 64); err == nil { // minimum_version: 1.2
				numbers = append(numbers, n)
			}
		}
		if numbers != nil { // in lists of their own: Helm 3 takes 1.2 and "1.2" in one list for equal, and refuses the schema
			node = schemaNode{AnyOf: []schemaNode{node, {Type: "number", Enum: numbers}}}
		}
		return node
	}
	switch {
	case parse(t, "1.5") == nil || parse(t, "-1") == nil:
		node.Type = []string{"string", "number"}
	case parse(t, "0.5") == nil: // a ratio
		node.Type, node.Minimum, node.Maximum = []string{"string", "number"}, new(0), new(1)
	case parse(t, "12") == nil: // a size
		node.Type, node.Minimum = []string{"string", "integer"}, new(0)
	case parse(t, "0") == nil: // a duration
		node.Type, node.Minimum, node.Maximum = []string{"string", "integer"}, new(0), new(0)
	}
	if pattern := patterns[t]; pattern != "" {
		node.Pattern = "^(" + pattern + ")$"
		if optional {
			node.Pattern = "^(" + pattern + ")?$"
		}
		if err := parse(t, "\x01"); err != nil && !strings.Contains(err.Error(), "got") {
			node.PatternText = err.Error()
		}
	} else if parserOf(t) != nil && t != reflect.TypeFor[certname.DN]() {
		m.t.Errorf("the schema has no pattern for the type %v", t)
	}
	if t == reflect.TypeFor[time.Duration]() {
		node.PatternText = "a duration has a unit, such as 500ms, 30s, 5m or 24h"
	}
	if !optional && parse(t, "") != nil {
		node.MinLength = 1
	}
	return node
}

// enumeration returns the values of an enumeration type, or nil.
func enumeration(t reflect.Type) []string {
	p := parserOf(t)
	var e *enumError
	if p == nil || !errors.As(p.UnmarshalText([]byte("\x01")), &e) {
		return nil
	}
	if t == reflect.TypeFor[OnFailure]() {
		return append(e.values, "answer") // the earlier name of respond, which is still read
	}
	return e.values
}

// The patterns are in the part of regular expressions that Go and JavaScript share. A pattern may match
// texts that the parser refuses, and must match every text that the parser accepts.
const (
	printable = `[!-~]+`
	urlRest   = `://[!"$-~]+` // no fragment
	hostChars = `[0-9A-Za-z_.:\[\]*-]+`
	addresses = `[0-9A-Fa-f:.]+`
)

var patterns = map[reflect.Type]string{
	reflect.TypeFor[time.Duration]():     `[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)`,
	reflect.TypeFor[Ratio]():             `[0-9.eE+-]+`,
	reflect.TypeFor[Bytes]():             `[0-9]+(B|KiB|MiB|GiB)?`,
	reflect.TypeFor[Address]():           `(\[[^\[\]]*\]|[^:\[\]]*):[0-9]+`,
	reflect.TypeFor[Path]():              `[^\r\n]*`,
	reflect.TypeFor[Name]():              `[0-9A-Za-z][0-9A-Za-z._-]{0,63}`,
	reflect.TypeFor[APIGrant]():          `[0-9A-Za-z][0-9A-Za-z._-]{0,63}`,
	reflect.TypeFor[ClientID]():          `[!-~]{1,128}`,
	reflect.TypeFor[ClaimName]():         `[!-~]{1,128}`,
	reflect.TypeFor[Scope]():             `[!#-\[\]-~]+`,
	reflect.TypeFor[Identifier]():        `https?://[!"$->@-~]+`, // neither query nor fragment
	reflect.TypeFor[Host]():              hostChars,
	reflect.TypeFor[Method]():            `[A-Z-]+`,
	reflect.TypeFor[HeaderName]():        `([0-9A-Za-z][0-9A-Za-z-]{0,63})?`,
	reflect.TypeFor[FieldName]():         `([0-9A-Za-z][0-9A-Za-z-]{0,63})?`,
	reflect.TypeFor[URL]():               `[Hh][Tt][Tt][Pp][Ss]?` + urlRest,
	reflect.TypeFor[UpstreamURL]():       `[Hh][Tt][Tt][Pp][Ss]?` + urlRest + `|unix:///[!-~]+`,
	reflect.TypeFor[DatabaseURL]():       `postgres(ql)?://[!-9;-~]+@[!-~]*`, // no password after the user
	reflect.TypeFor[RevocationList]():    `[^\r\n]*`,
	reflect.TypeFor[Network]():           addresses + `(/[0-9]{1,3})?`,
	reflect.TypeFor[Date]():              `[0-9]{4}-[0-9]{2}-[0-9]{2}`,
	reflect.TypeFor[access.Thumbprint](): `[0-9A-Za-z_-]{43}|[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}`,
	reflect.TypeFor[certname.URI]():      printable + `:` + printable,
	reflect.TypeFor[certname.IP]():       addresses,
	reflect.TypeFor[certname.Email]():    `[!-?A-~]+@[0-9A-Za-z_.-]+`,
	reflect.TypeFor[urlpath.Pattern]():   `/[^?#]*`,
}

// Every text that a parser accepts matches the pattern of its type.
func TestSchemaPatterns(t *testing.T) {
	texts := []string{
		"", "0", "-0", "+0s", "0s", "1.5h", ".5s", "1.s", "-1ms", "1h2m3.4s", "1µs", "1μs", "5ns", "10", "0B", "00KiB", "10MiB", "1GiB",
		":8443", "127.0.0.1:0", "[::1]:443", "[localhost]:80", "localhost:00080", "a.b:1", "[]:1", "tls.crt", "a b\tc", "/a/b.pem", "../ü", "n", "N.a_b-9", strings.Repeat("a", 64),
		strings.Repeat("c", 128), "!", "a~b", "a:b/c", "[x]^`{|}", "https://a.example", "http://[::1]:8080/a?b=c", "HTTP://A", "hTTps://a/%7E!$&'()*+,;=:@", "https://a/@x", "http://a:1/",
		"unix:///run/a.sock", "unix:///a#b?c", "*.a.example", "*.A.b", "::1", "[2001:DB8::1]", "192.0.2.1", "1a", "_a", "GET", "M-SEARCH", "-", "X-A", "0-", "10.0.0.0/8", "::/0",
		"2001:db8::/32", "::ffff:1.2.3.4", "fd00::1/128", "2026-11-30", "0001-01-02", "9999-12-31", "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0", strings.Repeat("aB", 32), strings.Repeat("aB:", 31) + "0f",
		"urn:a", "spiffe://a/b", "a.b+c-d:x", "1:2", "a@b", "a+b/c=d@x_y.Z", "a'b`{}@c", "CN=a", "/", "/a/{id}", "/**", "/a b/ü", "/%2F", "/a:b;c,d=e@f&$!'()*+~", "/[]^|\\<>\"`", "file:///a", "http://a.example/crl?x",
		"postgres://u@db/d", "postgresql://a%40b@h1:1,[::1]/d%2F", "postgres://u@/d?host=/run/a%20b", "postgres://u@v@db/d?host=",
	}
	for of, pattern := range patterns {
		matcher := regexp.MustCompile("^(" + pattern + ")$")
		accepted := 0
		for _, text := range texts {
			if parse(of, text) != nil || of == reflect.TypeFor[Path]() && strings.Contains(text, "\x00") {
				continue
			}
			accepted++
			if !matcher.MatchString(text) {
				t.Errorf("%v accepts %q, and its pattern %s does not match it", of, text, pattern)
			}
		}
		if accepted == 0 {
			t.Errorf("%v accepts no text of this test", of)
		}
	}
	for of, text := range map[reflect.Type]string{
		reflect.TypeFor[time.Duration](): "30", reflect.TypeFor[Bytes](): "1kB", reflect.TypeFor[Address](): "8443", reflect.TypeFor[Name](): "-a", reflect.TypeFor[URL](): "api.example.com",
		reflect.TypeFor[access.Thumbprint](): "A4D", reflect.TypeFor[certname.Email](): "a", reflect.TypeFor[urlpath.Pattern](): "a", reflect.TypeFor[Method](): "get", reflect.TypeFor[Date](): "30.11.2026",
	} {
		if regexp.MustCompile("^(" + patterns[of] + ")$").MatchString(text) {
			t.Errorf("the pattern of %v matches %q, want no match", of, text)
		}
	}
}
