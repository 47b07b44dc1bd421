// Package explain takes a decision apart into the checks that led to it, as text and as JSON.
package explain

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/mtls"
)

// An Explanation is a decision, taken apart into the checks that led to it.
type Explanation struct {
	Granted     bool         `json:"granted"`
	Status      int          `json:"status,omitzero"` // 0: the upstream's
	Reason      string       `json:"reason"`
	Error       string       `json:"error,omitzero"` // RFC 6750 section 3.1
	Description string       `json:"description,omitzero"`
	Method      string       `json:"method"`
	Host        string       `json:"host"`
	Path        string       `json:"path"`
	Certificate *Certificate `json:"certificate,omitzero"`
	Gates       []Stage      `json:"gates"`
}

// The verdicts of a check.
const (
	passed     = "passed"
	refused    = "refused"
	notReached = "not reached"
)

// An Stage is one check of a request.
type Stage struct {
	Gate     access.Stage `json:"gate"`
	Verdict  string       `json:"verdict"`
	Position string       `json:"position,omitzero"` // the rule in the configuration, file:line:column
	Path     string       `json:"rule,omitzero"`     // the same, as faults of the configuration name it
	Detail   string       `json:"detail,omitzero"`
	// Of a check that compares, in the standard's terms; Hex repeats a thumbprint.
	Compared    string `json:"compared,omitzero"`
	Expected    string `json:"expected,omitzero"`
	ExpectedHex string `json:"expected_hex,omitzero"`
	Came        string `json:"came,omitzero"`
	CameHex     string `json:"came_hex,omitzero"`
}

// An explainer knows what the checks of one decision had before them.
type explainer struct {
	cfg         *config.Config
	trust       *mtls.Trust
	request     *http.Request
	decision    access.Decision
	certificate *access.Certificate // nil unless it passed
}

func New(cfg *config.Config, trust *mtls.Trust, r *http.Request, d access.Decision, cert *access.Certificate) *Explanation {
	x := &explainer{cfg, trust, r, d, cert}
	e := &Explanation{
		Granted: d.Reason == access.Granted, Status: d.Reason.Status(), Reason: d.Reason.String(),
		Error: d.Reason.Code(), Description: d.Reason.Description(),
		Method: r.Method, Host: r.Host, Path: pathOf(r),
	}
	if len(r.TLS.PeerCertificates) > 0 {
		c := NewCertificate("", r.TLS.PeerCertificates[0])
		e.Certificate = &c
	}
	verdict := passed
	for _, stage := range access.Stages() {
		gate := Stage{Gate: stage, Verdict: verdict}
		switch {
		case verdict == notReached:
		case stage == d.Reason.Stage():
			gate.Verdict, verdict = refused, notReached
			x.describeRefusal(&gate)
		case d.Reason == access.Undecided:
			gate.Verdict = notReached
		default:
			x.describePass(&gate)
		}
		e.Gates = append(e.Gates, gate)
	}
	return e
}

// describePass says what let a request through a check.
func (x *explainer) describePass(gate *Stage) {
	claims := &x.decision.Claims
	switch gate.Gate {
	case access.StageMessage:
		gate.Detail = fmt.Sprintf("%s on host %s", x.request.Method, x.request.Host)
	case access.StageCertificate:
		gate.Detail = x.anchors()
	case access.StageToken:
		x.at(gate, x.server())
		gate.Detail = fmt.Sprintf("authorization server %s vouches for client_id %q", x.decision.Server, x.decision.ClientID)
		if claims.Server != "" { // the binding has passed too
			gate.Detail += fmt.Sprintf(", scope %q, until %s", strings.Join(claims.Scopes, " "), claims.Expires.UTC().Format(time.RFC3339))
		}
	case access.StageBinding:
		x.compare(gate, "cnf.x5t#S256", x.certificate.Thumbprint.String(), claims.Confirmation.Thumbprint.String())
	case access.StagePartner:
		x.at(gate, x.application())
		gate.Detail = fmt.Sprintf("partner %s, application %s", x.decision.Partner, claims.ClientID)
	case access.StageAPI:
		x.at(gate, x.route())
		gate.Detail = "route " + x.decision.Route
	case access.StageLimits:
		x.rate(gate)
	}
}

// rules name, for some reasons, the rule that turned a request down, and what it compares
// where the check itself does not say.
var explanations = []struct {
	reason access.Reason
	name   func(*explainer, *Stage)
}{
	{access.Misdirected, func(x *explainer, g *Stage) {
		x.at(g, "apis")
		x.compare(g, "host", strings.Join(x.hosts(), " or "), x.request.Host)
	}},
	{access.RevokedCertificate, func(x *explainer, g *Stage) { x.at(g, revocationPath) }},
	{access.RevocationUnknown, func(x *explainer, g *Stage) { x.at(g, revocationPath) }},
	{access.UpgradeNotAllowed, func(x *explainer, g *Stage) {
		if x.decision.Route != "" { // otherwise no route could allow it
			x.at(g, x.route())
			x.compare(g, "Upgrade", "what the route lists under upgrade", "websocket")
		}
	}},
	{access.BodyNotAllowed, func(x *explainer, g *Stage) {
		x.at(g, x.route())
		x.compare(g, "body", "none, unless the route says body: allowed", "a "+x.request.Method+" request with a body")
	}},
	{access.UnknownClient, func(x *explainer, g *Stage) {
		if x.decision.Err != nil { // the client is known, and its partner not one of the server's
			x.at(g, x.server()+".partners")
			return
		}
		x.at(g, "partners")
		x.compare(g, "client_id", "a configured application", fmt.Sprintf("%q", access.Truncate(x.decision.ClientID)))
	}},
	{access.PartnerDisabled, func(x *explainer, g *Stage) { x.at(g, x.partner()+".disabled") }},
	{access.CertificateNotRegistered, func(x *explainer, g *Stage) {
		path, registered := x.registered()
		x.at(g, path)
		x.compare(g, "certificate", registered, registrableText(x.certificate.Leaf))
	}},
	{access.APINotAllowed, func(x *explainer, g *Stage) {
		x.at(g, x.application()+".apis")
		x.compare(g, "call", "a route of an API that the application may call", x.request.Method+" "+pathOf(x.request))
	}},
	{access.InsufficientScope, func(x *explainer, g *Stage) { x.at(g, x.route()+".scopes") }},
	{access.BodyTooLarge, func(x *explainer, g *Stage) {
		x.at(g, "listener.limits.body_bytes")
		x.compare(g, "Content-Length", fmt.Sprintf("at most %d", x.cfg.Listener.Limits.BodyBytes), fmt.Sprint(x.request.ContentLength))
	}},
}

const revocationPath = "listener.client_certificates.revocation"

// pathOf returns the path of a request, as it came, without the query.
func pathOf(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// describeRefusal says what turned a request down.
func (x *explainer) describeRefusal(gate *Stage) {
	d := &x.decision
	gate.Detail = d.Reason.String()
	var mismatch *access.Mismatch
	switch {
	case errors.As(d.Err, &mismatch):
		x.compare(gate, mismatch.Name, mismatch.Want, mismatch.Got)
	case d.Err != nil:
		gate.Detail += ": " + d.Err.Error()
	}
	for _, r := range explanations {
		if r.reason == d.Reason {
			r.name(x, gate)
		}
	}
	if d.Reason.Stage() == access.StageToken || d.Reason.Stage() == access.StageBinding {
		x.at(gate, x.server())
	}
}

// at names the rule at path, where the file has one.
func (x *explainer) at(gate *Stage, path string) {
	if at := x.cfg.Position(path); at.Line > 0 {
		gate.Path, gate.Position = path, at.String()
	}
}

// compare says what was expected and what came; of thumbprints, in both spellings.
func (x *explainer) compare(gate *Stage, of, want, got string) {
	gate.Compared, gate.Expected, gate.Came = of, want, got
	gate.ExpectedHex, gate.CameHex = hexOf(want), hexOf(got)
}

// hexOf returns a thumbprint in hexadecimal, "" for what is none.
func hexOf(s string) string {
	t, err := access.ParseThumbprint(s)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(t[:])
}
