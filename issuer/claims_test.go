package issuer

import (
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
)

// A stored token whose cnf has a member beside x5t#S256 and jkt, or a malformed member, matches no
// certificate and no key at the gate, and its introspection response has the whole cnf.
func TestConfirmationBesideOthers(t *testing.T) {
	const thumbprint = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"
	const other = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	right, err := access.ParseThumbprint(thumbprint)
	if err != nil {
		t.Fatal(err)
	}
	key, err := access.ParseThumbprint(other)
	if err != nil {
		t.Fatal(err)
	}
	for record, want := range map[string]access.Confirmation{
		`{}`: {},
		`{"cnf":{"x5t#S256":"` + thumbprint + `"}}`:                            {Present: true, Thumbprint: right},
		`{"cnf":{"jkt":"` + other + `"}}`:                                      {Present: true, Key: key},
		`{"cnf":{"x5t#S256":"` + thumbprint + `","jkt":"` + other + `"}}`:      {Present: true, Thumbprint: right, Key: key},
		`{"cnf":{"x5t#S256":"` + thumbprint + `","jkt":"` + thumbprint + `"}}`: {Present: true, Thumbprint: right, Key: right},
		`{"cnf":{"x5t#S256":"` + thumbprint + `","jkt":"x"}}`:                  {Present: true},
		`{"cnf":{"x5t#S256":"x","jkt":"` + other + `"}}`:                       {Present: true},
		`{"cnf":{"x5t#S256":"` + thumbprint + `","other":[1]}}`:                {Present: true},
		`{"cnf":{"jkt":"x"}}`:                                                  {Present: true},
		`{"cnf":{}}`:                                                           {Present: true},
	} {
		var c claims
		if err := json.Unmarshal([]byte(record), &c); err != nil {
			t.Fatal(record, err)
		}
		if got := unchecked(&c).Confirmation; got != want {
			t.Errorf("unchecked of %s: got %+v, want %+v", record, got, want)
		}
	}
	var c claims
	if err := json.Unmarshal([]byte(`{"cnf":{"x5t#S256":"x","jkt":"y"}}`), &c); err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(introspectionResponse(&c).(map[string]any)["cnf"]); err != nil || string(got) != `{"x5t#S256":"x","jkt":"y"}` {
		t.Errorf("introspectionResponse has cnf %s, %v; want both members", got, err)
	}
}
