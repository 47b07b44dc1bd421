package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A schemaNode is a JSON Schema of draft-07, which editors and Helm read; many know no later draft. It
// has no references, so that it can be put into another schema as it is.
type schemaNode struct {
	Schema      string       `json:"$schema,omitempty"`
	Title       string       `json:"title,omitempty"`
	Description string       `json:"description,omitempty"`
	Type        any          `json:"type,omitempty"` // a text or a list
	Enum        []any        `json:"enum,omitempty"`
	Default     any          `json:"default,omitempty"`
	Pattern     string       `json:"pattern,omitempty"`
	PatternText string       `json:"patternErrorMessage,omitempty"` // an extension of the YAML language server
	MinLength   int          `json:"minLength,omitempty"`
	Minimum     *int         `json:"minimum,omitempty"`
	Maximum     *int         `json:"maximum,omitempty"`
	MinItems    int          `json:"minItems,omitempty"`
	Items       *schemaNode  `json:"items,omitempty"`
	AnyOf       []schemaNode `json:"anyOf,omitempty"`
	Required    []string     `json:"required,omitempty"`
	Properties  properties   `json:"properties,omitempty"`
	Closed      *bool        `json:"additionalProperties,omitempty"` // false: no other keys
}

// properties keep the order of the file.
type properties []property

type property struct {
	key  string
	node schemaNode
}

func (p properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, each := range p {
		b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(&b, "%q:", each.key)
		encoded, err := marshal(each.node)
		if err != nil {
			return nil, err
		}
		b.Write(encoded)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal is json.Marshal without the escapes of < and > that HTML needs.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// makeRoot returns the schema of the configuration.
func makeRoot(t *testing.T) schemaNode {
	t.Helper()
	m := schemaMaker{t: t, words: readExample(t)}
	root := m.mapping(reflect.ValueOf(Default()).Elem(), "")
	root.Schema = "http://json-schema.org/draft-07/schema#"
	root.Title = "Configuration of tallygate"
	return root
}

// makeSchema returns the content of tallygate.schema.json.
func makeSchema(t *testing.T) []byte {
	t.Helper()
	compact, err := marshal(makeRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

type schemaMaker struct {
	t     *testing.T
	words *exampleWords
}

// mapping returns the schema of a struct whose fields have their defaults in v. path is the path of the
// mapping, without the indexes of lists.
func (m *schemaMaker) mapping(v reflect.Value, path string) schemaNode {
	node := schemaNode{Type: "object", Closed: new(false)}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		at := strings.TrimPrefix(path+"."+key, ".")
		limits := readLimits(m.t, field)
		if limits.required {
			node.Required = append(node.Required, key)
		}
		each := m.value(v.Field(i), at, limits)
		each.Description = m.words.of(v.Type(), key, at)
		node.Properties = append(node.Properties, property{key, each})
	}
	return node
}

// value returns the schema of a value whose default is v.
func (m *schemaMaker) value(v reflect.Value, path string, l limits) schemaNode {
	switch {
	case isText(v.Type()) && hasKeys(v.Type()): // an APIGrant
		return schemaNode{AnyOf: []schemaNode{m.text(v.Type(), false), m.mapping(v, path)}}
	case isText(v.Type()):
		node := m.text(v.Type(), false)
		node.MinLength = max(node.MinLength, l.length)
		node.Default = defaultText(m.t, v)
		return node
	case v.Kind() == reflect.Pointer && isText(v.Type().Elem()):
		node := m.text(v.Type().Elem(), true)
		if !v.IsNil() {
			node.Default = defaultText(m.t, v.Elem())
		}
		return node
	case v.Kind() == reflect.Bool:
		return schemaNode{Type: "boolean", Default: v.Bool()}
	case v.Kind() == reflect.Int:
		node := schemaNode{Type: "integer", Minimum: l.minimum}
		if v.Int() != 0 {
			node.Default = v.Int()
		}
		return node
	case v.Kind() == reflect.Pointer:
		return m.mapping(withDefaults(v.Type().Elem()), path)
	case v.Kind() == reflect.Slice:
		items := m.value(withDefaults(v.Type().Elem()), path, limits{length: l.itemLength})
		node := schemaNode{Type: "array", MinItems: l.items, Items: &items}
		for i := range v.Len() {
			list, _ := node.Default.([]any)
			node.Default = append(list, defaultText(m.t, v.Index(i)))
		}
		return node
	}
	return m.mapping(v, path)
}

// withDefaults returns a value of the type with the defaults that the decoder sets.
func withDefaults(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	setDefaults(v.Interface())
	if s, ok := v.Interface().(*AuthorizationServer); ok {
		// The defaults of these keys depend on the profile, so the schema has none.
		s.Algorithms, s.Types, s.ClientClaim, s.AudienceClaim = nil, nil, nil, nil
	}
	return v.Elem()
}

// defaultText returns a default as it is written in a file, or nil for no default.
func defaultText(t *testing.T, v reflect.Value) any {
	t.Helper()
	if v.IsZero() && v.Type() != reflect.TypeFor[LogLevel]() { // the level info is 0
		return nil
	}
	var text string
	switch d := v.Interface().(type) {
	case time.Duration:
		text = d.String() // 2m0s
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(text, zero) {
				text = text[:len(text)-2]
			}
		}
	case Bytes:
		units, n := []string{"B", "KiB", "MiB", "GiB"}, d
		for len(units) > 1 && n%1024 == 0 {
			units, n = units[1:], n/1024
		}
		text = strconv.FormatInt(int64(n), 10) + units[0]
	case LogLevel:
		text = strings.ToLower(slog.Level(d).String())
	case TLSVersion:
		text = map[TLSVersion]string{TLS12: "1.2", TLS13: "1.3"}[d]
	case URL:
		text = d.String()
	default:
		text = v.String()
	}
	if err := parse(v.Type(), text); err != nil {
		t.Errorf("the default %q of type %v is not read back: %v", text, v.Type(), err)
	}
	return text
}

// limits are what validation demands of a field in any case, as its tag schema says.
type limits struct {
	required   bool // without it, the configuration is refused
	length     int  // the least number of characters
	items      int  // the least number of elements
	itemLength int  // the least number of characters of each element
	minimum    *int
}

func readLimits(t *testing.T, field reflect.StructField) (l limits) {
	t.Helper()
	tag := field.Tag.Get("schema")
	if tag == "" {
		return l
	}
	for word := range strings.SplitSeq(tag, ",") {
		least, isMinimum := strings.CutPrefix(word, "minimum=")
		switch n, err := strconv.Atoi(least); {
		case isMinimum && err == nil:
			l.minimum = &n
		case word == "required":
			l.required = true
		case word == "nonempty" && field.Type.Kind() == reflect.Slice:
			l.items = 1
		case word == "nonempty":
			l.length = 1
		case word == "elements":
			l.itemLength = 1
		default:
			t.Errorf("the tag schema of %s has the unknown word %q", field.Name, word)
		}
	}
	return l
}
