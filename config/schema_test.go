package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write "+SchemaFile)

// The published schema, and its copy in the schema of the chart's values, equal the result of makeRoot
// for the types and the example. Run the test with -update after a change of either.
func TestSchemaFile(t *testing.T) {
	const repair = "differs from the types or from config.example.yaml; run: go test ./config -run TestSchemaFile -update"
	want := makeSchema(t)
	chart, wantChart := chartSchema(t)
	if *update {
		if err := errors.Join(os.WriteFile(SchemaFile, want, 0o644), os.WriteFile(chartSchemaFile, wantChart, 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(Schema(), want) {
		t.Errorf("%s %s", SchemaFile, repair)
	}
	if !bytes.Equal(chart, wantChart) {
		t.Errorf("config in %s %s", chartSchemaFile, repair)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(SchemaFile, document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(SchemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// jsonOf returns a YAML value as editors hand it to a JSON Schema.
func jsonOf(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return jsonOf(n.Content[0])
	case yaml.AliasNode:
		return jsonOf(n.Alias)
	case yaml.MappingNode:
		object := make(map[string]any)
		for i := 0; i+1 < len(n.Content); i += 2 {
			object[n.Content[i].Value] = jsonOf(n.Content[i+1])
		}
		return object
	case yaml.SequenceNode:
		list := []any{}
		for _, element := range n.Content {
			list = append(list, jsonOf(element))
		}
		return list
	case yaml.ScalarNode:
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if number := json.Number(n.Value); json.Valid([]byte(n.Value)) {
			return number
		}
		var number float64
		if n.Decode(&number) == nil {
			return number
		}
	}
	return n.Value
}

func parseYAML(t *testing.T, text []byte) *yaml.Node {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	return &document
}

// Every valid configuration of the repository is valid by the schema. The test reads a configuration in a
// script if it is valid without replacements.
func TestSchemaAccepts(t *testing.T) {
	compiled := compileSchema(t)
	valid := 0
	check := func(name string, text []byte) {
		if !bytes.Contains(text, []byte("authorization_servers:")) {
			return
		}
		if _, err := Parse(name, "", text); err != nil {
			return
		}
		valid++
		if err := compiled.Validate(jsonOf(parseYAML(t, text))); err != nil {
			t.Errorf("%s is valid, and the schema refuses it: %v", name, err)
		}
	}
	for _, pattern := range []string{"../*.yaml", "testdata/*.yaml", "../cmd/tallygate/testdata/*.yaml", "../internal/*/*.yaml", "../cmd/tallygate/testdata/*.txtar", "../deploy/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Ext(file) != ".txtar" {
				check(file, demoAddress.ReplaceAllFunc(text, func(name []byte) []byte { return fmt.Appendf(nil, "127.0.0.1:%d", 8000+len(name)) }))
				continue
			}
			for i, part := range regexp.MustCompile(`(?m)^-- .* --\n`).Split(string(text), -1) {
				check(fmt.Sprintf("%s, file %d", file, i), []byte(part))
			}
		}
	}
	if valid < 15 {
		t.Errorf("%d valid configurations found, want 15 at least", valid)
	}
}

// demoAddress matches the names that demo and init replace by the address of a listener. The names have
// different lengths.
var demoAddress = regexp.MustCompile(`\$\{(PARTNERS|ISSUER|ADMIN|API)\}`)

// The schema refuses mistakes, and its errors name the position of the mistake.
func TestSchemaRefuses(t *testing.T) {
	compiled := compileSchema(t)
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, changed, path, message string }{
		{"listener:\n", "listner: {}\nlistener:\n", "", "additional properties 'listner' not allowed"},
		{"  minimum_version: \"1.2\"", "  minimum_version: \"1.1\"", "/listener/minimum_version", "value must be one of '1.2', '1.3'"},
		{"    self_signed: true", "    self_signed: yes please", "/listener/client_certificates/self_signed", "got string, want boolean"},
		{"    from: tls", "    from: socket", "/listener/client_certificates/from", "value must be one of 'tls', 'header'"},
		{"    connections: 10000", "    connections: many", "/listener/limits/connections", "got string, want integer"},
		{"    connections: 10000", "    connections: 0", "/listener/limits/connections", "minimum: got 0, want 1"},
		{"    idle_timeout: 2m", "    idle_timeout: 120", "/listener/limits/idle_timeout", "maximum: got 120, want 0"},
		{"    idle_timeout: 2m", "    idle_timeout: 2 minutes", "/listener/limits/idle_timeout", "does not match pattern"},
		{"    header_bytes: 32KiB", "    header_bytes: 32kb", "/listener/limits/header_bytes", "does not match pattern"},
		{"  - name: partners #", "  - nam: partners #", "/authorization_servers/0", "missing property 'name'"},
		{"    algorithms: [ES256, PS256, EdDSA]\n    # Accepted values", "    algorithms: [HS256]\n    # Accepted values", "/authorization_servers/0/algorithms/0", "value must be one of 'ES256'"},
		{"    audiences: [https://api.example.com] # a", "    audiences: [] # a", "/authorization_servers/0/audiences", "minItems: got 0, want 1"},
		{"      url: http://127.0.0.1:8080", "      url: 127.0.0.1:8080", "/apis/0/upstream/url", "does not match pattern"},
		{"      - methods: [GET] # exact", "      - methods: GET # exact", "/apis/0/routes/0/methods", "got string, want array"},
		{"      - methods: [GET] # exact", "      - methods: [get] # exact", "/apis/0/routes/0/methods/0", "does not match pattern"},
		{"            thumbprints: [A4DtL2J", "            thumbprints: [A4", "/partners/list/1/applications/0/certificate/thumbprints/0", "does not match pattern"},
		{"              methods: [GET] #", "              method: [GET] #", "/partners/list/0/applications/0/apis/1", "additional properties 'method' not allowed"},
		{"            - accounts\n", "            - \n", "/partners/list/0/applications/0/apis/0", "got null, want object"},
		{"  address: \":9443\" # its", "  # address", "/issuer", "missing property 'address'"},
		{"  address: 127.0.0.1:9090", "  address: 127.0.0.1", "/admin/address", "does not match pattern"},
		{"  delay: 5s", "  delay: [5s]", "/drain/delay", "got array, want "},
	} {
		text := strings.Replace(string(example), tt.old, tt.changed, 1)
		if text == string(example) {
			t.Errorf("the example lacks %q", tt.old)
			continue
		}
		err := compiled.Validate(jsonOf(parseYAML(t, []byte(text))))
		if got := leaves(err); !slices.ContainsFunc(got, func(leaf string) bool {
			return strings.HasPrefix(leaf, tt.path+": ") && strings.Contains(leaf, tt.message)
		}) {
			t.Errorf("with %q the schema reports %q, want %s: %s", tt.changed, got, tt.path, tt.message)
		}
		if _, err := Parse(exampleFile, "", []byte(text)); err == nil {
			t.Errorf("with %q Parse returned no error, want one", tt.changed)
		}
	}
}

// leaves returns the errors of a validation with the places of their values.
func leaves(err error) []string {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return nil
	}
	if len(invalid.Causes) == 0 {
		place := ""
		for _, step := range invalid.InstanceLocation {
			place += "/" + step
		}
		_, message, _ := strings.Cut(invalid.Error(), "': ")
		return []string{place + ": " + message}
	}
	var all []string
	for _, cause := range invalid.Causes {
		all = append(all, leaves(cause)...)
	}
	return all
}
