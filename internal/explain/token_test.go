package explain

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/rules"
)

// Names in claims and in the rules' input must not reach a terminal unescaped, neither as control
// characters nor as lines of their own. The JSON keeps them.
func TestExplanationOfHostileNames(t *testing.T) {
	hostile := []string{"a\x1b[2J\x7f.test", "b\n\rclaims       forged", `c\u001b`}
	cert := testpki.NewCA("Northwind CA").Leaf("ledger", testpki.DNS(hostile...)).Cert
	policy, err := rules.Compile(&config.Config{Issuer: &config.Issuer{Governance: config.Governance{
		Claims: []config.ClaimRule{
			{Name: "names", Claim: "names", Value: "certificate.san_dns"},
			{Name: "text", Claim: "text", Value: `"\u009b2J\u202eevil\U000e0041 – Söhne"`},
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	e := TokenExplanation{Explanation: issuer.Explanation{Granted: true, Lifetime: "5m0s"}}
	if _, err := policy.Decide(rules.Input{Certificate: cert}, &e.Governance); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := e.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(strings.ReplaceAll(out.String(), "\n", ""), func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not all of it prints: %q", out.String())
	}
	steps, rest, _ := strings.Cut(out.String(), "input of the rules:\n")
	_, steps, _ = strings.Cut(steps, "certificate  none\n")
	want := "claims       names                    added the claim names: [a\\u001b[2J\\u007f.test b\\u000a\\u000dclaims       forged c\\u001b]\n" +
		"claims       text                     added the claim text: \\u009b2J\\u202eevil\\udb40\\udc41 – Söhne\n"
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	var saw struct {
		Certificate struct {
			SANDNS []string `json:"san_dns"`
		}
	}
	if err := json.NewDecoder(strings.NewReader(rest)).Decode(&saw); err != nil {
		t.Fatalf("%v in %s", err, rest)
	}
	if diff := cmp.Diff(hostile, saw.Certificate.SANDNS); diff != "" {
		t.Errorf("what the rules saw is no longer what it was (-want +got):\n%s", diff)
	}
}
