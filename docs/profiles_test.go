package docs_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
)

// The table of authorization-servers.md has every profile with the defaults that it sets, and a link
// to the page of its vendor.
func TestProfileTable(t *testing.T) {
	page, err := os.ReadFile("authorization-servers.md")
	if err != nil {
		t.Fatal(err)
	}
	var none config.Profile
	listed := regexp.MustCompile(`[a-z0-9-]+`).FindAllString(strings.TrimPrefix(strings.Split(none.UnmarshalText(nil).Error(), ", got")[0], "expected "), -1)
	listed = slices.DeleteFunc(listed, func(word string) bool { return word == "or" })
	for _, name := range listed {
		row := regexp.MustCompile("(?m)^\\| `" + name + "`.*$").FindString(string(page))
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if len(cells) != 8 {
			t.Errorf("profile %s has %d cells in the table, want 8: %q", name, len(cells), row)
			continue
		}
		d := config.Profile(name).Defaults()
		want := []string{
			strings.ReplaceAll(code(d.Types), "`"+config.NoType+"`", "none"), algorithms(d.Algorithms), code(d.ClientClaim), code(d.AudienceClaim),
			fmt.Sprintf("`%s`", d.ScopeClaim), "`cnf`",
		}
		if d.RolesAsScopes != "" {
			want[4] += fmt.Sprintf(" and `%s`", d.RolesAsScopes)
		}
		if d.ConfirmationClaim == config.ExtCNF {
			want[5] += " or `ext.cnf`"
		}
		if !slices.Equal(cells[1:7], want) {
			t.Errorf("row of %s = %q, want %q", name, cells[1:7], want)
		}
		if !strings.Contains(cells[7], "](https://") {
			t.Errorf("row of %s has no link to its vendor: %q", name, cells[7])
		}
	}
	if len(listed) < 11 {
		t.Errorf("profiles %q, want at least 11", listed)
	}
}

// code returns texts as a cell: each in backticks.
func code[T ~string](texts []T) string {
	all := make([]string, len(texts))
	for i, s := range texts {
		all[i] = fmt.Sprintf("`%s`", s)
	}
	return strings.Join(all, ", ")
}

// algorithms returns the cell with the algorithms. The cell names the algorithms of RFC 9068 together.
func algorithms(list []config.Algorithm) string {
	all := make([]string, len(list))
	for i, a := range list {
		all[i] = string(a)
	}
	text, standard := strings.Join(all, ", "), "ES256, PS256, EdDSA, "
	if rest, ok := strings.CutPrefix(text, standard); ok {
		return "and " + rest
	}
	return text
}
