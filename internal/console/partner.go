package console

import (
	"cmp"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/explain"
	"github.com/tallygate/tallygate/internal/history"
)

// A partnerPage shows which requests of one partner were refused and why, and what the partner may call.
type partnerPage struct {
	page
	Name         string
	Known        bool // the configuration has the partner
	Disabled     bool
	Position     string
	Charts       []chart  `json:"-"`
	Minutes      []minute // the charts as a table
	Totals       totals   // totals of the last hour
	Refusals     []refusal
	Elsewhere    []refusal // refusals of other partners that sent tokens of this partner
	Applications []application
	Seen         []clientCertificate
	Anchors      []clientCertificate
	NoAnchors    string `json:",omitempty"` // why the anchors could not be read
	Routes       []permission
	MoreRoutes   int
	Servers      []string // the authorization servers that may issue tokens for it
}

// mostRoutes bounds the permissions on a partner's page.
const mostRoutes = 200

// An application is an OAuth client of a partner.
type application struct {
	ClientID       string
	Position       string
	Registered     string // the names and thumbprints that its certificates must have
	Authentication string
	APIs           []string // with the methods, where they are limited
	Scopes         []string // the scopes that our own issuer grants
	RateLimit      string   `json:",omitempty"`
}

// A clientCertificate is the row of a client certificate of granted requests, or of an anchor.
type clientCertificate struct {
	ClientID   string `json:",omitempty"`
	Subject    string
	Issuer     string
	Thumbprint string
	Ends       moment
	State      string
	Last       moment `json:",omitzero"` // the last request with the certificate
}

func (c *console) partner(w http.ResponseWriter, r *http.Request) {
	v, name := c.view(), r.URL.Query().Get("name")
	p := v.partnerPage(name)
	status := http.StatusOK
	if !p.Known && len(p.Refusals) == 0 && name != unknownPartner {
		status = http.StatusNotFound
	}
	respond(w, r, status, p)
}

func (v *view) partnerPage(name string) partnerPage {
	_, window := v.History.Partner(name, v.now)
	p := partnerPage{
		page: v.page("Partner "+access.Truncate(name), "/partners"), Name: access.Truncate(name), Minutes: v.minutes(&window),
		Totals: totals{window.Sum(history.Granted, history.Minutes), window.Sum(history.Refused, history.Minutes), window.Sum(history.Failed, history.Minutes)},
		Charts: []chart{
			newChart("All requests", &window, history.Granted, history.Refused, history.Failed),
			newChart("Refused and failed requests", &window, history.Refused, history.Failed),
		},
	}
	if name == unknownPartner {
		p.Title = "Requests of no known partner"
	}
	for _, r := range v.History.Refusals(name) {
		p.Refusals = append(p.Refusals, v.refusal(r))
	}
	if name != unknownPartner {
		for _, r := range v.History.AllRefusals(func(r *history.Refusal) bool {
			return r.Partner != name && r.Get("token_partner") == name
		}) {
			p.Elsewhere = append(p.Elsewhere, v.refusal(r))
		}
	}
	for _, c := range v.History.Certificates(name) {
		p.Seen = append(p.Seen, clientCertificate{
			ClientID: c.ClientID, Subject: c.Subject, Issuer: c.Issuer, Thumbprint: access.Thumbprint(c.Thumbprint).String(),
			Ends: v.moment(c.NotAfter), State: endState(v.now, c.NotAfter, partnerEnding), Last: v.moment(c.Last),
		})
	}
	list := v.state.Config.Partners.List
	if i := slices.IndexFunc(list, func(p config.Partner) bool { return string(p.Name) == name }); i >= 0 {
		v.describePartner(&p, i)
	}
	return p
}

// describePartner adds the settings of the partner with the index i.
func (v *view) describePartner(p *partnerPage, i int) {
	settings := &v.state.Config.Partners.List[i]
	p.Known, p.Disabled, p.Position = true, settings.Disabled, v.position("partners.list[%d]", i)
	anchors, err := v.state.Anchors(settings)
	if err != nil {
		p.NoAnchors = "The files of the anchors cannot be read now. The gate goes on with the anchors that it has loaded."
	}
	for _, c := range anchors {
		p.Anchors = append(p.Anchors, clientCertificate{
			Subject: certname.Text(c.RawSubject), Issuer: certname.Text(c.RawIssuer), Thumbprint: access.ThumbprintOf(c).String(),
			Ends: v.moment(c.NotAfter), State: endState(v.now, c.NotAfter, anchorEnding),
		})
	}
	for j := range settings.Applications {
		a := &settings.Applications[j]
		described := application{
			ClientID: string(a.ClientID), Position: v.position("partners.list[%d].applications[%d]", i, j), Registered: registered(a),
			Authentication: string(a.Authentication), Scopes: texts(a.Scopes),
		}
		for _, g := range a.APIs {
			described.APIs = append(described.APIs, strings.TrimSpace(string(g.API)+" "+strings.Join(texts(g.Methods), " ")))
		}
		if a.RateLimit != nil {
			described.RateLimit = fmt.Sprintf("%d a second, %d at once", a.RateLimit.RequestsPerSecond, a.RateLimit.Burst)
		}
		p.Applications = append(p.Applications, described)
	}
	for r := range v.permissions(settings) {
		if len(p.Routes) == mostRoutes {
			p.MoreRoutes++
			continue
		}
		p.Routes = append(p.Routes, r)
	}
	p.Servers = v.issuersFor(settings.Name)
}

// registered says which certificates belong to an application.
func registered(a *config.Application) string {
	if text := a.Certificate.String(); text != "" {
		return text
	}
	if a.Authentication == config.SelfSignedTLSClientAuth {
		return "the certificates of its keys"
	}
	return "any certificate under the partner's anchors"
}

// issuersFor returns the authorization servers that may issue tokens for a partner.
func (v *view) issuersFor(partner config.Name) (names []string) {
	for i := range v.state.Config.AuthorizationServers {
		if s := &v.state.Config.AuthorizationServers[i]; s.Partners == nil || slices.Contains(s.Partners, partner) {
			names = append(names, string(s.Name))
		}
	}
	return names
}

// A refusal is a refused or failed request with its explanation.
type refusal struct {
	Partner       string // the partner of the certificate
	Reason        string
	Bad           bool // the gate or the API is at fault, or the token may be stolen
	Times         int
	First, Last   moment
	Method        string
	Target        string // host and path, or host and path pattern
	Listener      string `json:",omitempty"` // the listener of a failed handshake
	API           string
	Application   string   // the application that registers the certificate
	TokenPartner  string   // the partner of the token
	ClientID      string   // the client of the token
	Issuer        string   // the authorization server that issued the token
	Certificate   []string // the names of the certificate, its issuer and its end
	Thumbprint    string
	Remote        string
	RequestID     string
	Explanation   *explain.LogLine
	Documentation string
	Command       string // the command line that explains the request further
}

func (v *view) refusal(r *history.Refusal) refusal {
	fields := make([]explain.LogField, len(r.Fields))
	for i, f := range r.Fields {
		fields[i] = explain.LogField{Key: f.Key, Value: f.Value}
	}
	line := explain.ExplainLogLine(fields, v.state.Config)
	if line.Stage.Position != "" {
		line.Stage.Position = filepath.Base(line.Stage.Position)
	}
	shown := refusal{
		Partner: r.Partner, Reason: r.Kind.Reason, Times: r.Times, First: v.moment(r.First), Last: v.moment(r.Last),
		Bad:    isSerious(r.Kind.Reason, strings.HasPrefix(r.Get("status"), "5")),
		Method: r.Get("method"), Target: r.Get("host") + cmp.Or(r.Get("path"), r.Get("route")), API: apiName(r.Get("api")), Listener: r.Get("listener"),
		Application: r.Get("application"), TokenPartner: r.Get("token_partner"), ClientID: r.Get("client_id"), Issuer: r.Get("issuer"),
		Thumbprint: r.Get("thumbprint"), Remote: r.Get("remote"), RequestID: r.Get("request_id"), Explanation: line,
	}
	if r.Get("count") != "" { // a line stands for several handshakes
		shown.Times = 0
	}
	if r.Get("path") == "" && r.Get("route") == "unmatched" {
		shown.Target = r.Get("host")
	}
	for _, key := range []string{"subject_dn", "san_dns", "san_uri", "san_ip", "san_email", "issuer_dn", "serial"} {
		if value := r.Get(key); value != "" {
			shown.Certificate = append(shown.Certificate, key+" "+value)
		}
	}
	if end, err := time.Parse(time.RFC3339, r.Get("not_after")); err == nil {
		word := "ends "
		if end.Before(v.now) {
			word = "ended "
		}
		shown.Certificate = append(shown.Certificate, word+end.Format("2006-01-02")+", "+ago(v.now, end))
	}
	if line.See != "" {
		shown.Documentation = documentation + line.See
	}
	shown.Command = explainCommand(shown.RequestID, v.state.File)
	return shown
}

// explainCommand returns the command line that explains the line of a request, or "" if the request id may
func explainCommand(id, file string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	if id == "" || id[0] == '-' || strings.IndexFunc(id, func(r rune) bool { return !plain(r) }) >= 0 {
		return ""
	}
	return "grep " + id + " gate.log | tallygate explain --config '" + strings.ReplaceAll(file, "'", `'\''`) + "' --log-line -"
}
