package chart_test

import (
	"os"
	"strings"
	"testing"
)

// The README shows the chart that the tests render.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("testdata/accounts/templates/accounts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```yaml\n"+string(example)+"```\n") {
		t.Error("the README's example is not testdata/accounts")
	}
}
