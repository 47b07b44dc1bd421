// Package explain describes a decision as the list of checks that led to it, as text and as JSON.
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

// An Explanation describes a decision by its checks.
type Explanation struct {
	Granted     bool         `json:"granted"`
	Status      int          `json:"status,omitzero"` // 0: the status comes from the upstream
	Reason      string       `json:"reason"`
	Error       string       `json:"error,omitzero"` // RFC 6750 section 3.1
	Description string       `json:"description,omitzero"`
	Method      string       `json:"method"`
	Host        string       `json:"host"`
	Path        string       `json:"path"`
	At          time.Time    `json:"at,omitzero"` // the time of the decision; zero for the present
	Certificate *Certificate `json:"certificate,omitzero"`
	Stages      []Stage      `json:"stages"`
	// Also has the refusals that would remain if the cause of Reason were gone, except refusals by checks
	// that need the result of the failed check.
	Also []Refusal `json:"would_also_be_refused,omitempty"`
}

// The verdicts of a check.
const (
	passed     = "passed"
	refused    = "refused"
	notReached = "not reached"
	// wouldRefuse is the verdict of a check that was not reached and would refuse the request too.
	wouldRefuse = "would refuse"
)

// A Stage is one check of a request.
type Stage struct {
	Stage    access.Stage `json:"stage"`
	Verdict  string       `json:"verdict"`
	Position string       `json:"position,omitzero"` // position of the rule in the configuration, file:line:column
	Path     string       `json:"rule,omitzero"`     // the rule's path, as in faults of the configuration
	Detail   string       `json:"detail,omitzero"`
	// The fields below are set for checks that compare two values. The Hex fields have the same
	// thumbprints as Expected and Got, in hexadecimal.
	Compared    string `json:"compared,omitzero"`
	Expected    string `json:"expected,omitzero"`
	ExpectedHex string `json:"expected_hex,omitzero"`
	Got         string `json:"got,omitzero"`
	GotHex      string `json:"got_hex,omitzero"`
	// Hint names the claims that a refused token has in place of a configured claim, and the settings
	// that make the gate read these claims.
	Hint string `json:"hint,omitzero"`
}

// An explainer holds the inputs of the checks that led to one decision.
type explainer struct {
	cfg         *config.Config
	trust       *mtls.Trust
	request     *http.Request
	decision    access.Decision
	certificate *access.Certificate // nil unless the certificate check passed
}

// New explains the decision d about r. cert is nil unless the certificate was accepted.
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
		described := Stage{Stage: stage, Verdict: verdict}
		switch {
		case verdict == notReached:
		case stage == d.Reason.Stage():
			described.Verdict, verdict = refused, notReached
			x.describeRefusal(&described)
		case d.Reason == access.Undecided:
			described.Verdict = notReached
		default:
			x.describePass(&described)
		}
		e.Stages = append(e.Stages, described)
	}
	return e
}

// describePass describes why a check passed.
func (x *explainer) describePass(stage *Stage) {
	if x.decision.Preflight && stage.Stage != access.StageMessage && stage.Stage != access.StageAPI {
		x.at(stage, x.route()+".preflight")
		stage.Detail = "not needed for a preflight"
		return
	}
	claims := &x.decision.Claims
	switch stage.Stage {
	case access.StageMessage:
		stage.Detail = fmt.Sprintf("%s on host %s", x.request.Method, x.request.Host)
	case access.StageCertificate:
		stage.Detail = x.anchors()
	case access.StageToken:
		x.at(stage, x.server())
		stage.Detail = fmt.Sprintf("issued by authorization server %s for client_id %q", x.decision.Server, x.decision.ClientID)
		if claims.Server != "" { // a token with claims has passed the binding check, too
			stage.Detail += fmt.Sprintf(", scope %q, until %s", strings.Join(claims.Scopes, " "), claims.Expires.UTC().Format(time.RFC3339))
		}
	case access.StageBinding:
		if c := claims.Confirmation; c.Key == (access.Thumbprint{}) {
			x.compare(stage, "cnf.x5t#S256", x.certificate.Thumbprint.String(), c.Thumbprint.String())
		} else {
			stage.Detail = "the DPoP proof is signed with the key of cnf.jkt, " + c.Key.String()
		}
	case access.StagePartner:
		path, _ := x.application()
		x.at(stage, path)
		stage.Detail = fmt.Sprintf("partner %s, application %s", x.decision.Partner, claims.ClientID)
	case access.StageAPI:
		x.at(stage, x.route())
		stage.Detail = "route " + x.decision.API + " " + x.decision.Route
	case access.StageLimits:
		x.rate(stage)
	}
}

// explanations has, for each reason, a function that stores in the Stage the path and the position of
// the configured rule that the request breaks. If the error of the check has no compared values, the
// function also stores these values.
var explanations = []struct {
	reason access.Reason
	name   func(*explainer, *Stage)
}{
	{access.Misdirected, func(x *explainer, g *Stage) {
		x.at(g, "apis")
		x.compare(g, "host", strings.Join(x.hosts(), " or "), x.request.Host)
	}},
	{access.RevokedCertificate, func(x *explainer, g *Stage) {
		if x.decision.Err == nil || !strings.Contains(x.decision.Err.Error(), mtls.ErrRevokedThumbprint.Error()) { // compared as text, because it may be from a log line
			x.at(g, revocationPath)
			return
		}
		x.at(g, "issuer")
		x.at(g, "revocations")
	}},
	{access.RevocationUnknown, func(x *explainer, g *Stage) { x.at(g, revocationPath) }},
	{access.UpgradeNotAllowed, func(x *explainer, g *Stage) {
		if x.decision.Route != "" { // without a matched route, no setting of a route is at fault
			x.at(g, x.route())
			x.compare(g, "Upgrade", "an upgrade that the route lists", "websocket")
		}
	}},
	{access.BodyNotAllowed, func(x *explainer, g *Stage) {
		x.at(g, x.route())
		x.compare(g, "body", "no body, unless the route has body: allowed", "a "+x.request.Method+" request with a body")
	}},
	{access.UnknownClient, func(x *explainer, g *Stage) {
		if g.Compared == "partner" { // the client is known, but the partner is not in the server's list of partners
			x.at(g, x.server()+".partners")
			return
		}
		x.at(g, "partners")
	}},
	{access.PartnerDisabled, func(x *explainer, g *Stage) { x.at(g, x.partner()+".disabled") }},
	{access.CertificateNotRegistered, func(x *explainer, g *Stage) {
		path, registered := x.registered()
		x.at(g, path)
		if x.certificate != nil { // a line of the log has no certificate
			x.compare(g, "certificate", registered, registrableText(x.certificate.Leaf))
		}
	}},
	{access.APINotAllowed, func(x *explainer, g *Stage) {
		if x.decision.Partner == "" { // the client is not known, so no application lacks a grant
			x.at(g, "apis")
		} else {
			path, _ := x.application()
			x.at(g, path+".apis")
		}
		x.compare(g, "call", "a route of an API that the application may call", x.request.Method+" "+pathOf(x.request))
	}},
	{access.BindingNotAccepted, func(x *explainer, g *Stage) {
		if x.decision.Route != "" { // without a matched route, no API accepts tokens that are bound to a key
			x.at(g, fmt.Sprintf("apis[%d].binding", x.decision.Rule.API))
		}
	}},
	{access.InsufficientScope, func(x *explainer, g *Stage) { x.at(g, x.route()+".scopes") }},
	{access.BodyTooLarge, func(x *explainer, g *Stage) {
		x.at(g, "listener.limits.body_bytes")
		x.compare(g, "Content-Length", fmt.Sprintf("at most %d", x.cfg.Listener.Limits.BodyBytes), fmt.Sprint(x.request.ContentLength))
	}},
}

const revocationPath = "listener.client_certificates.revocation"

// pathOf returns the path of a request as it was sent, without the query.
func pathOf(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// describeRefusal describes why a check refused.
func (x *explainer) describeRefusal(stage *Stage) {
	d := &x.decision
	stage.Detail = d.Reason.String()
	var mismatch *access.Mismatch
	switch {
	case errors.As(d.Err, &mismatch):
		x.compare(stage, mismatch.Name, mismatch.Want, mismatch.Got)
	case d.Err != nil:
		stage.Detail += ": " + d.Err.Error()
	}
	for _, r := range explanations {
		if r.reason == d.Reason && x.knows(r.reason) {
			r.name(x, stage)
		}
	}
	stage.Hint = x.hint()
	if (d.Reason.Stage() == access.StageToken || d.Reason.Stage() == access.StageBinding) && stage.Path == "" {
		x.at(stage, x.server())
	}
}

// knows reports whether the decision has the indexes of the configuration that the function for reason
// needs. A decision of the gate has them. A decision that was read from the log lacks them if the
// configuration has changed.
func (x *explainer) knows(reason access.Reason) bool {
	switch reason { //nolint:exhaustive // the other functions need no indexes, or find their settings by name
	case access.PartnerDisabled, access.CertificateNotRegistered:
		return x.decision.Partner != ""
	case access.BodyNotAllowed, access.InsufficientScope:
		return x.decision.Route != ""
	}
	return true
}

// at sets the rule to the setting at path, if the configuration file has this setting.
func (x *explainer) at(stage *Stage, path string) {
	if at := x.cfg.Position(path); at.Line > 0 {
		stage.Path, stage.Position = path, at.String()
	}
}

// compare sets the name of what was compared, the expected value and the received value.
func (x *explainer) compare(stage *Stage, of, want, got string) {
	stage.Compared, stage.Expected, stage.Got = of, want, got
	stage.ExpectedHex, stage.GotHex = hexOf(want), hexOf(got)
}

// hexOf returns the thumbprint s in hexadecimal, or "" if s is no thumbprint.
func hexOf(s string) string {
	t, err := access.ParseThumbprint(s)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(t[:])
}
