package docs_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write configuration.md from config.example.yaml")

// TestConfigurationPage checks that configuration.md is what configurationPage makes of the example
// configuration. Run it with -update after a change of the example.
func TestConfigurationPage(t *testing.T) {
	example, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := configurationPage(string(example))
	if *update {
		if err := os.WriteFile("configuration.md", want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("configuration.md differs from config.example.yaml; run: go test ./docs -run TestConfigurationPage -update")
	}
}

const configurationIntro = `# Configuration

<!-- Made from config.example.yaml by: go test ./docs -run TestConfigurationPage -update -->

Every key with its meaning, unit and default, from [config.example.yaml](../config.example.yaml). A key with a default may be left out. Check
a configuration with

    tallygate check --config tallygate.yaml

Editors with the YAML language server (VS Code, Neovim, Emacs, JetBrains) explain each key and mark mistakes by the JSON Schema
[tallygate.schema.json](../config/tallygate.schema.json), if the configuration begins with

    # yaml-language-server: $schema=tallygate.schema.json

and ` + "`tallygate schema > tallygate.schema.json`" + ` wrote the file beside it. The schema is for writing: it refuses nothing that the gate
accepts, except true and false as text without quotation marks, and accepts much that the gate refuses. Only ` + "`check`" + ` knows whether a
configuration is valid. It is of draft-07, the newest that this language server and Helm both read.

Relative paths are relative to the configuration's folder. Durations have a unit (` + "`500ms`, `30s`, `5m`, `24h`" + `), and so have
sizes (` + "`B`, `KiB`, `MiB`, `GiB`" + `). Unknown and doubled keys are errors, and all errors are reported at once, with file, line and
column. Nothing is expanded: ` + "`${NAME}`" + ` in a value is just that text.

[README.md](../README.md#a-first-configuration) shows a first configuration and the command that writes it.

| section | what it sets |
| --- | --- |
`

// configurationPage returns a page with a section for each key at the top level of the example:
// the comment above the key as text, and the key with the lines below it as YAML.
func configurationPage(example string) []byte {
	var page, sections bytes.Buffer
	page.WriteString(configurationIntro)
	// A section that is a comment, because it excludes another section, is shown like the others.
	example = regexp.MustCompile(`(?m)^# \w+:\n(?:#   .*\n)+`).ReplaceAllStringFunc(example, func(block string) string {
		return regexp.MustCompile(`(?m)^# `).ReplaceAllString(block, "")
	})
	section := regexp.MustCompile(`(?m)^((?:# .*\n)*)((\w+):.*\n(?:(?: .*)?\n)*)`)
	for _, m := range section.FindAllStringSubmatch(example, -1) {
		text := strings.TrimSpace(strings.ReplaceAll("\n"+m[1], "\n# ", "\n"))
		summary, _, _ := strings.Cut(strings.ReplaceAll(text, "\n", " "), ". ")
		fmt.Fprintf(&page, "| [`%s`](#%[1]s) | %s |\n", m[3], strings.TrimSuffix(summary, "."))
		fmt.Fprintf(&sections, "\n## %s\n\n%s\n\n```yaml\n%s\n```\n", m[3], text, strings.TrimSpace(m[2]))
	}
	page.Write(sections.Bytes())
	return page.Bytes()
}
