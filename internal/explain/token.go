package explain

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer"
)

// A TokenExplanation describes the decision about a token request by its checks.
type TokenExplanation struct {
	ClientID    string       `json:"client_id"`
	Scope       string       `json:"requested_scope,omitzero"`
	Requested   []string     `json:"requested_resources,omitempty"`
	Address     string       `json:"address"`
	At          time.Time    `json:"at,omitzero"` // the time of the decision; zero for the present
	Certificate *Certificate `json:"certificate,omitzero"`
	Checks      []Stage      `json:"checks"` // the checks before the rules
	issuer.Explanation
}

// NewToken describes e, which explains q.
func NewToken(cfg *config.Config, q issuer.ExplainRequest, e issuer.Explanation) *TokenExplanation {
	t := &TokenExplanation{ClientID: q.ClientID, Scope: q.Scope, Requested: q.Resources, Address: q.Address.String(), Explanation: e}
	if len(q.Chain) > 0 {
		c := NewCertificate("", q.Chain[0])
		t.Certificate = &c
	}
	x := &explainer{cfg: cfg}
	verdict := passed
	for _, name := range []string{issuer.CertificateCheck, issuer.ClientCheck, issuer.ScopeCheck, issuer.ResourceCheck} {
		check := Stage{Stage: access.Stage(name), Verdict: verdict}
		if name == e.Check {
			check.Verdict, verdict = refused, notReached
			check.Detail = e.Reason
			if e.Compared != "" {
				x.compare(&check, e.Compared, e.Expected, e.Got)
			}
			x.at(&check, tokenSetting(cfg, q.ClientID, e.Compared))
		}
		t.Checks = append(t.Checks, check)
	}
	return t
}

// tokenSetting returns the configuration path of the setting behind the comparison compared for a
// client.
func tokenSetting(cfg *config.Config, clientID, compared string) string {
	owner, client := "", ""
	for i := range cfg.Partners.List {
		for j := range cfg.Partners.List[i].Applications {
			if string(cfg.Partners.List[i].Applications[j].ClientID) == clientID {
				owner, client = fmt.Sprintf("partners.list[%d]", i), fmt.Sprintf("partners.list[%d].applications[%d]", i, j)
			}
		}
	}
	for i := range cfg.Issuer.ResourceServers {
		if string(cfg.Issuer.ResourceServers[i].ClientID) == clientID {
			owner = fmt.Sprintf("issuer.resource_servers[%d]", i)
			client = owner
		}
	}
	switch {
	case client == "":
		return "partners"
	case compared == "partner":
		return owner + ".disabled"
	case compared == "anchor":
		return owner + ".trust"
	case compared == "certificate":
		return client + ".certificate"
	case compared == "scope", compared == "resource":
		return client + "." + compared + "s"
	}
	return client
}

// WriteText writes e as text. It escapes verdicts and names, because they quote text that the creator
// of the certificate chose.
func (e *TokenExplanation) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "request      a token for client_id %s from %s", Printable(strconv.Quote(e.ClientID)), e.Address)
	if e.Scope != "" {
		fmt.Fprintf(&b, ", scope %s", Printable(strconv.Quote(e.Scope)))
	}
	if len(e.Requested) > 0 {
		fmt.Fprintf(&b, ", resources %s", Printable(fmt.Sprintf("%q", e.Requested)))
	}
	b.WriteString("\n")
	writeSubject(&b, e.At, e.Certificate)
	writeStages(&b, e.Checks)
	for _, step := range e.Governance.Steps {
		fmt.Fprintf(&b, "%-12s %-24s %s", step.Level, step.Rule, Printable(step.Verdict))
		if step.Position != "" {
			fmt.Fprintf(&b, "  (%s)", step.Position)
		}
		b.WriteString("\n")
	}
	if saw := e.Governance.Saw; saw != nil {
		text, err := json.Marshal(saw, jsontext.WithIndent("  "))
		if err != nil {
			return err
		}
		b.WriteString("input of the rules:\n")
		for line := range strings.Lines(string(text)) { // only the line breaks of the indentation, because JSON escapes all others
			b.WriteString(Printable(strings.TrimSuffix(line, "\n")) + "\n")
		}
	}
	if e.Granted {
		fmt.Fprintf(&b, "granted: scopes %q, resources %q, for %s, bound: %t\n", e.Scopes, e.Resources, e.Lifetime, e.Bound)
	} else {
		fmt.Fprintf(&b, "refused: %q\n", e.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Printable replaces characters that do not print by JSON escapes. The result is one line. If s is
// JSON, the result is JSON with the same meaning.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
