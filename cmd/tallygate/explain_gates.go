package main

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/mtls"
)

// An explanation is a decision, taken apart into the checks that led to it.
type explanation struct {
	Granted     bool            `json:"granted"`
	Status      int             `json:"status,omitzero"` // 0: the upstream's
	Reason      string          `json:"reason"`
	Error       string          `json:"error,omitzero"` // RFC 6750 section 3.1
	Description string          `json:"description,omitzero"`
	Method      string          `json:"method"`
	Host        string          `json:"host"`
	Path        string          `json:"path"`
	Certificate *certificate    `json:"certificate,omitzero"`
	Gates       []explainedGate `json:"gates"`
}

// The verdicts of a check.
const (
	passed     = "passed"
	refused    = "refused"
	notReached = "not reached"
)

// An explainedGate is one check of a request.
type explainedGate struct {
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

func newExplanation(cfg *config.Config, trust *mtls.Trust, r *http.Request, d access.Decision, cert *access.Certificate) *explanation {
	x := &explainer{cfg, trust, r, d, cert}
	e := &explanation{
		Granted: d.Reason == access.Granted, Status: d.Reason.Status(), Reason: d.Reason.String(),
		Error: d.Reason.Code(), Description: d.Reason.Description(),
		Method: r.Method, Host: r.Host, Path: strings.SplitN(r.RequestURI, "?", 2)[0],
	}
	if len(r.TLS.PeerCertificates) > 0 {
		c := newCertificate("", r.TLS.PeerCertificates[0])
		e.Certificate = &c
	}
	verdict := passed
	for _, stage := range access.Stages() {
		gate := explainedGate{Gate: stage, Verdict: verdict}
		switch {
		case verdict == notReached:
		case stage == d.Reason.Stage():
			gate.Verdict, verdict = refused, notReached
			x.refusal(&gate)
		case d.Reason == access.Undecided:
			gate.Verdict = notReached
		default:
			x.passage(&gate)
		}
		e.Gates = append(e.Gates, gate)
	}
	return e
}

// passage says what let a request through a check.
func (x *explainer) passage(gate *explainedGate) {
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
	}
}

// refusal says what turned a request down.
func (x *explainer) refusal(gate *explainedGate) {
	d := &x.decision
	gate.Detail = d.Reason.String()
	var mismatch *access.Mismatch
	switch {
	case errors.As(d.Err, &mismatch):
		x.compare(gate, mismatch.Of, mismatch.Want, mismatch.Got)
	case d.Err != nil:
		gate.Detail += ": " + d.Err.Error()
	}
	switch d.Reason {
	case access.Misdirected:
		x.at(gate, "apis")
		x.compare(gate, "host", strings.Join(x.hosts(), " or "), x.request.Host)
	case access.UnknownClient:
		x.at(gate, "partners")
		x.compare(gate, "client_id", "a configured application", fmt.Sprintf("%q", access.Clip(d.Claims.ClientID)))
	case access.PartnerDisabled:
		x.at(gate, x.partner()+".disabled")
	case access.CertificateNotRegistered:
		x.at(gate, x.application()+".certificate")
		x.compare(gate, "certificate", x.registered(), registrableText(x.certificate.Leaf))
	case access.APINotAllowed:
		x.at(gate, x.application()+".apis")
		x.compare(gate, "call", "a route of an API that the application may call", x.request.Method+" "+strings.SplitN(x.request.RequestURI, "?", 2)[0])
	case access.InsufficientScope:
		x.at(gate, x.route()+".scopes")
	case access.BodyTooLarge:
		x.at(gate, "listener.limits.body_bytes")
		x.compare(gate, "Content-Length", fmt.Sprintf("at most %d", x.cfg.Listener.Limits.BodyBytes), fmt.Sprint(x.request.ContentLength))
	default: // the detail says it all, or the mismatch does
	}
	if d.Reason.Stage() == access.StageToken || d.Reason.Stage() == access.StageBinding {
		x.at(gate, x.server())
	}
}

// at names the rule at path, where the file has one.
func (x *explainer) at(gate *explainedGate, path string) {
	if at := x.cfg.Position(path); at.Line > 0 {
		gate.Path, gate.Position = path, at.String()
	}
}

// compare says what was expected and what came; of thumbprints, in both spellings.
func (x *explainer) compare(gate *explainedGate, of, want, got string) {
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

// anchors says whose anchors the certificate chains to.
func (x *explainer) anchors() string {
	var partners []string
	for name, anchors := range x.trust.Anchors() {
		if x.certificate.ChainsTo(anchors) {
			partners = append(partners, string(name))
		}
	}
	slices.Sort(partners)
	if len(partners) == 0 {
		return "chains to no anchor; it counts by its thumbprint alone"
	}
	return "chains to anchors of " + strings.Join(partners, ", ")
}

func (x *explainer) hosts() []string {
	var hosts []string
	for _, api := range x.cfg.APIs {
		for _, h := range api.Hosts {
			hosts = append(hosts, string(h))
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// server returns the path of the authorization server whose token it is, or of them all.
func (x *explainer) server() string {
	for i, s := range x.cfg.AuthorizationServers {
		if string(s.Name) == x.decision.Server {
			return fmt.Sprintf("authorization_servers[%d]", i)
		}
	}
	return "authorization_servers"
}

// partner returns the path of the partner that the token's client belongs to.
func (x *explainer) partner() string {
	path, _ := x.client()
	return path
}

// application returns the path of the token's client.
func (x *explainer) application() string {
	partner, j := x.client()
	return fmt.Sprintf("%s.applications[%d]", partner, j)
}

// client returns the path of the partner of the token's client, and the client's index.
func (x *explainer) client() (partner string, application int) {
	for i, p := range x.cfg.Partners.List {
		j := slices.IndexFunc(p.Applications, func(a config.Application) bool { return string(a.ClientID) == x.decision.ClientID })
		if j >= 0 {
			return fmt.Sprintf("partners.list[%d]", i), j
		}
	}
	return "partners.list", 0
}

// route returns the path of the route that matched.
func (x *explainer) route() string {
	for i, api := range x.cfg.APIs {
		if string(api.Name) != x.decision.API {
			continue
		}
		for j, r := range api.Routes {
			if string(api.Name)+" "+r.Path.String() == x.decision.Route && slices.Contains(r.Methods, config.Method(x.request.Method)) {
				return fmt.Sprintf("apis[%d].routes[%d]", i, j)
			}
		}
	}
	return "apis"
}

// registered says which certificates are the client's.
func (x *explainer) registered() string {
	for _, p := range x.cfg.Partners.List {
		for _, a := range p.Applications {
			if string(a.ClientID) != x.decision.ClientID {
				continue
			}
			if said := a.Certificate.String(); said != "" {
				return said + ", under the anchors of partner " + string(p.Name)
			}
			return "any under the anchors of partner " + string(p.Name)
		}
	}
	return ""
}

// registrableText says what could be registered of a certificate.
func registrableText(cert *x509.Certificate) string {
	var said []string
	for _, n := range config.CertificateNames(cert) {
		said = append(said, n.Key+" "+n.Value)
	}
	return strings.Join(append(said, "thumbprint "+access.ThumbprintOf(cert).String()), ", ")
}

// text returns e for a person to read. Names are what whoever made the certificate or the
// token chose, and a terminal obeys some characters.
func (e *explanation) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "request      %s https://%s%s\n", visible(e.Method), visible(e.Host), visible(e.Path))
	if c := e.Certificate; c != nil {
		fmt.Fprintf(&b, "certificate  %s\n             %s\n             subject %s, valid until %s\n", c.Thumbprint, c.Hex, visible(c.Subject), c.NotAfter.Format(time.RFC3339))
	} else {
		b.WriteString("certificate  none\n")
	}
	for _, g := range e.Gates {
		line := fmt.Sprintf("%-12s %-11s %s", g.Gate, g.Verdict, visible(g.Detail))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if g.Compared != "" {
			fmt.Fprintf(&b, "%-12s %s\n", "", visible(g.Compared))
			b.WriteString(compared("expected", g.Expected, g.ExpectedHex))
			b.WriteString(compared("came", g.Came, g.CameHex))
		}
		if g.Position != "" {
			fmt.Fprintf(&b, "%-12s rule %s (%s)\n", "", visible(g.Position), g.Path)
		}
	}
	if e.Granted {
		b.WriteString("granted: it would be forwarded\n")
		return b.String()
	}
	fmt.Fprintf(&b, "refused: %d %s. %s\n", e.Status, e.Reason, e.Description)
	return b.String()
}

func compared(what, value, inHex string) string {
	if inHex != "" {
		value += " = " + inHex
	}
	return fmt.Sprintf("%-14s %-8s  %s\n", "", what, visible(value))
}
