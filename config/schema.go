package config

import (
	_ "embed"
	"slices"
)

// schema is made from the types of this package and from config.example.yaml by
//
//	go test ./config -run TestSchemaFile -update
//
//go:embed tallygate.schema.json
var schema []byte

// Schema returns the JSON Schema of the configuration file, draft-07: every key with its type, values,
// default and meaning. A file that the schema refuses is refused by [Load] too. The reverse does not hold:
// the schema does not check references between settings, ranges of durations, or settings that exclude
// each other.
func Schema() []byte { return slices.Clone(schema) }

// SchemaFile is the name of the file that editors read the schema from, beside a configuration.
const SchemaFile = "tallygate.schema.json"

// SchemaModeline is the comment by which editors with the YAML language server find [SchemaFile]
// beside the configuration that begins with it.
const SchemaModeline = "# yaml-language-server: $schema=" + SchemaFile + "\n"
