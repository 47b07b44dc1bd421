package config

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

const chartSchemaFile = "../charts/tallygate/values.schema.json"

// setByChart are the keys that the chart sets itself, and the sections that it creates for them.
var setByChart = []string{"listener", "listener.certificate", "issuer.address", "issuer.state", "issuer.mtls_alias.address"}

// withoutRequired removes keys from the required keys of the mappings around them.
func withoutRequired(node *schemaNode, path string, keys []string) {
	node.Required = slices.DeleteFunc(node.Required, func(key string) bool {
		return slices.Contains(keys, strings.TrimPrefix(path+"."+key, "."))
	})
	for i := range node.Properties {
		p := &node.Properties[i]
		withoutRequired(&p.node, strings.TrimPrefix(path+"."+p.key, "."), keys)
	}
}

// chartSchema returns the schema of the chart's values with the schema of the configuration as the value
// config. Helm fetches nothing, so a reference to another file is not possible.
func chartSchema(t *testing.T) (before, after []byte) {
	t.Helper()
	root := makeRoot(t)
	withoutRequired(&root, "", setByChart)
	root.Schema, root.Title = "", ""
	root.Description = "The gate's configuration, without what the chart sets. tallygate check judges the rest."
	compact, err := marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	var embedded bytes.Buffer
	if err := json.Indent(&embedded, compact, "    ", "  "); err != nil {
		t.Fatal(err)
	}
	if before, err = os.ReadFile(chartSchemaFile); err != nil {
		t.Fatal(err)
	}
	var values struct {
		Properties struct {
			Config json.RawMessage `json:"config"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(before, &values); err != nil {
		t.Fatalf("%s: %v", chartSchemaFile, err)
	}
	if n := bytes.Count(before, values.Properties.Config); n != 1 {
		t.Fatalf("%s has the schema of config %d times, want once", chartSchemaFile, n)
	}
	return before, bytes.Replace(before, values.Properties.Config, embedded.Bytes(), 1)
}
