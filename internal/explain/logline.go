package explain

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A LogLine explains a line of the gate's log.
type LogLine struct {
	Time    string `json:"time,omitzero"`
	Level   string `json:"level,omitzero"`
	Message string `json:"message"`
	// Outcome is the reason, the failure, the value of terminated_by or the cause in the line; it is empty
	// for a line that is about neither a request nor a handshake.
	Outcome string `json:"outcome,omitzero"`
	Meaning string `json:"meaning,omitzero"` // what Outcome means
	Stage   Stage  `json:"check,omitzero"`   // the check that refused; zero if no check did
	Advice  Advice `json:"advice,omitzero"`
	See     string `json:"see,omitzero"` // the page about Outcome
	// Fields are the members of the line in their order, without the members above.
	Fields []LogField `json:"fields"`
	// Named are the partner, application, server, API and route in the line, with their positions in
	// the configuration.
	Named []Named `json:"named,omitempty"`
}

// A LogField is a member of a line of the log.
type LogField struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A Named is a thing that the line and the configuration name.
type Named struct {
	Kind     string `json:"kind"` // partner, application, server, API or route
	Name     string `json:"name"`
	Position string `json:"position,omitzero"` // empty if the configuration has no such thing
	Path     string `json:"path,omitzero"`
}

// ExplainLogLine explains the members of a line. cfg is the configuration of the gate, or nil.
func ExplainLogLine(fields []LogField, cfg *config.Config) *LogLine {
	l := &LogLine{}
	get := func(keys ...string) string {
		for _, f := range fields {
			if slices.Contains(keys, f.Key) && f.Value != "" {
				return f.Value
			}
		}
		return ""
	}
	l.Time, l.Level, l.Message = get("time"), get("level"), get("msg")
	for _, f := range fields {
		if !slices.Contains([]string{"time", "level", "msg", "advice"}, f.Key) && f.Value != "" {
			l.Fields = append(l.Fields, f)
		}
	}
	d := access.Decision{
		Partner: get("partner"), ClientID: get("client_id"), API: get("api"), Route: get("route"), Server: get("issuer", "server"),
	}
	l.describe(get, &d)
	other := get("token_partner")
	if cfg != nil {
		l.name(cfg, &d, other)
	}
	if l.Stage.Stage != "" {
		l.describeCheck(cfg, d, get)
	}
	return l
}

// describe sets what the outcome in the line means, and the reason and the detail of d.
func (l *LogLine) describe(get func(...string) string, d *access.Decision) {
	reason, terminated, failure, cause := get("reason"), get("terminated_by"), get("failure"), get("cause")
	l.Outcome = cmp.Or(failure, terminated, cause, reason)
	d.Err = detailOf(get("error", "detail", "err"))
	known := false
	switch {
	case l.Outcome == "":
		l.Meaning = "This line is not about a request or a handshake. Its message and its error say what happened."
	case failure != "":
		l.Meaning = "The request was granted and then failed."
		l.Advice, known = FailureAdvice(failure)
	case terminated != "":
		l.Meaning = "The request was granted, and the gate ended it while it was under way."
		l.Advice, known = TerminationAdvice(terminated)
	case cause != "":
		l.Meaning = "The TLS handshake failed, so there was no request."
	}
	if r, named := reasonNamed(l.Outcome); named && failure == "" {
		d.Reason, known = r, r != access.Granted
		l.Advice = AdviceFor(r)
		l.Meaning = strings.TrimSpace(l.Meaning + " " + r.Description())
		l.Stage = Stage{Stage: r.Stage(), Verdict: refused, Detail: r.String()}
		if r == access.Granted {
			l.Meaning, l.Stage = "Every check passed, and the request was forwarded. The status is the API's.", Stage{}
		}
	}
	if l.Outcome == access.BoundToOther.String() {
		l.Advice = bindingAdvice(l.Advice, get("partner"), get("token_partner"))
	}
	if summary := get("summary"); summary != "" {
		l.Meaning += " Here " + summary + "."
	}
	switch {
	case known:
		l.See = "docs/reasons.md#" + l.Outcome
	case cause != "":
		l.See = "docs/logs.md#failed-handshakes"
	case l.Outcome == "":
		l.See = "docs/logs.md#messages"
	}
	if l.Advice.Do == "" {
		l.Advice.Do = get("advice")
	}
}

// bindingAdvice returns the advice for a token that is bound to another certificate. caller is the partner
// that holds the certificate, owner the partner of the token. If either is unknown, it returns general.
func bindingAdvice(general Advice, caller, owner string) Advice {
	switch {
	case caller == "" || caller == "unknown" || owner == "" || owner == "unknown":
		return general
	case caller == owner:
		return Advice{
			"the partner, which calls with another of its certificates than it fetched the token with",
			"The partner must fetch a new token with the certificate that it calls with, as after each renewal.",
		}
	}
	return Advice{
		"partner " + caller + ", or an attacker who has its certificate",
		"The token of partner " + owner + " was stolen or passed on: revoke it, at its authorization server or with tallygate revoke, and call both partners.",
	}
}

// detailOf returns the detail of a refusal in a line: a mismatch, if a check has compared two values.
func detailOf(detail string) error {
	name, rest, ok := strings.Cut(detail, ": want ")
	if want, got, compared := strings.Cut(rest, ", got "); ok && compared {
		return &access.Mismatch{Name: name, Want: want, Got: got}
	}
	if detail == "" {
		return nil
	}
	return errors.New(detail)
}

// name looks up the partner, application, server, API and route of the line in cfg, and sets the indexes of
// d. It removes names from d that cfg does not have. tokenPartner is the partner of the token.
func (l *LogLine) name(cfg *config.Config, d *access.Decision, tokenPartner string) {
	add := func(kind, name, path string) {
		n := Named{Kind: kind, Name: name, Path: path}
		if path != "" {
			n.Position = cfg.Position(path).String()
		}
		l.Named = append(l.Named, n)
	}
	partners := make(map[string]string)
	application, owner, api, route := "", "", "", ""
	for i := range cfg.Partners.List {
		p := &cfg.Partners.List[i]
		partners[string(p.Name)] = fmt.Sprintf("partners.list[%d]", i)
		for j := range p.Applications {
			if d.ClientID == string(p.Applications[j].ClientID) {
				application, owner = fmt.Sprintf("partners.list[%d].applications[%d]", i, j), string(p.Name)
				d.Rule.Partner, d.Rule.Application = i, j
			}
		}
	}
	for _, name := range slices.Compact([]string{d.Partner, tokenPartner}) {
		if name != "" && name != "unknown" {
			add("partner", name, partners[name])
		}
	}
	d.Partner = owner // the settings of the application decide, even if another partner called
	if d.ClientID != "" {
		add("application", d.ClientID, application)
	}
	server := ""
	for i := range cfg.AuthorizationServers {
		if string(cfg.AuthorizationServers[i].Name) == d.Server {
			server = fmt.Sprintf("authorization_servers[%d]", i)
		}
	}
	if d.Server != "" {
		add("server", d.Server, server)
	}
	for i := range cfg.APIs {
		a := &cfg.APIs[i]
		for j := range a.Routes {
			pattern := a.Routes[j].Path.String()
			if d.Route == string(a.Name)+" "+pattern || d.API == string(a.Name) && d.Route == pattern {
				d.API, d.Rule.API, d.Rule.Route = string(a.Name), i, j
				route = fmt.Sprintf("apis[%d].routes[%d]", i, j)
			}
		}
		if d.API == string(a.Name) {
			api = fmt.Sprintf("apis[%d]", i)
		}
	}
	if d.API != "" && d.API != "none" && d.API != "unmatched" {
		add("API", d.API, api)
	}
	if d.Route != "" && d.Route != "unmatched" {
		add("route", d.Route, route)
	}
	if route == "" {
		d.Route = ""
	}
}

// describeCheck sets the expected and the received value of the check that refused and, if cfg is not nil,
// the setting behind the check.
func (l *LogLine) describeCheck(cfg *config.Config, d access.Decision, get func(...string) string) {
	x := &explainer{cfg: cfg, decision: d, request: &http.Request{
		Method: get("method"), Host: get("host"), RequestURI: get("path"), Header: http.Header{},
	}}
	var mismatch *access.Mismatch
	switch {
	case errors.As(d.Err, &mismatch):
		x.compare(&l.Stage, mismatch.Name, mismatch.Want, mismatch.Got)
	case d.Err != nil:
		l.Stage.Detail += ": " + d.Err.Error()
	}
	if cfg == nil {
		return
	}
	var described Stage
	x.describeRefusal(&described)
	l.Stage.Path, l.Stage.Position = described.Path, described.Position
}
