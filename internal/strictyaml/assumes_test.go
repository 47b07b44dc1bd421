package strictyaml

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// The errors of the YAML library have the texts that parse.go reads. For a wrong token their line
// counts from 1, for a wrong order of tokens from 0. docs/stdlib-assumptions.md has the case.
func TestAssumesYAMLErrors(t *testing.T) {
	for _, c := range []struct {
		text, line, message string
		order, alias        bool
	}{
		{text: "a: 1\nb: @\n", line: "2", message: "found character that cannot start any token"},
		{text: "a: 1\n- b\n", line: "1", message: "did not find expected key", order: true},
		{text: "a: *b\n", message: "unknown anchor 'b' referenced", alias: true},
	} {
		err := yaml.Unmarshal([]byte(c.text), new(any))
		if err == nil {
			t.Errorf("%q is valid, want an error", c.text)
			continue
		}
		m := yamlError.FindStringSubmatch(err.Error())
		if m == nil || m[1] != c.line || m[2] != c.message {
			t.Errorf("%q gives the error %q, want line %q and %q", c.text, err, c.line, c.message)
			continue
		}
		if order, alias := orderError.MatchString(m[2]), unknownAlias.MatchString(m[2]); order != c.order || alias != c.alias {
			t.Errorf("%q: the error is about the order: %t, about an alias: %t; want %t, %t", c.text, order, alias, c.order, c.alias)
		}
	}
}
