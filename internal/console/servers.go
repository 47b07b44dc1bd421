package console

import (
	"net/http"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/validate"
)

// A server is the state of an authorization server.
type server struct {
	Name          string
	Issuer        string
	Required      bool
	Position      string
	Problem       string         `json:",omitempty"` // why its tokens cannot be checked, or soon cannot; "" if they can
	Keys          *keySet        `json:",omitempty"`
	Introspection *introspection `json:",omitempty"`
}

// keySet is the key set of a server.
type keySet struct {
	From     string // the source of the keys: a URL, files or the configuration
	Count    int
	Fetched  moment
	Failure  string  `json:",omitempty"` // why the last fetch failed
	FailedAt *moment `json:",omitempty"`
}

// introspection is the introspection at a server.
type introspection struct {
	State    string // answering, suspended, not ready or not used yet
	Answered moment // the last response
	Failure  string `json:",omitempty"` // the last failure
	FailedAt *moment
}

// A serversPage shows whether the gate can check tokens, and which certificates end.
type serversPage struct {
	page
	Servers      []server
	Certificates []certificate
	More         int
}

// mostCertificates bounds the certificates on the page of servers.
const mostCertificates = 200

func (c *console) servers(w http.ResponseWriter, r *http.Request) {
	v := c.view()
	p := serversPage{page: v.page("Servers and certificates", "/servers"), Servers: v.servers()}
	ends := v.endings(v.History.Activities(v.now))
	p.Certificates, p.More = v.shown(ends, mostCertificates), max(0, len(ends)-mostCertificates)
	respond(w, r, http.StatusOK, p)
}

// servers returns the state of all authorization servers.
func (v *view) servers() (all []server) {
	for i := range v.state.Servers {
		status := &v.state.Servers[i]
		s := server{Name: status.Name, Required: status.Required}
		for j := range v.state.Config.AuthorizationServers {
			if known := &v.state.Config.AuthorizationServers[j]; string(known.Name) == status.Name {
				s.Issuer, s.Position = string(known.Issuer), v.position("authorization_servers[%d]", j)
				s.Keys = v.keySet(status, known)
			}
		}
		s.Introspection = v.introspection(status)
		s.Problem = problem(status, v.now)
		all = append(all, s)
	}
	return all
}

// problem says why the tokens of a server cannot be checked, or why they soon cannot.
func problem(s *validate.ServerStatus, now time.Time) string {
	switch {
	case s.Unready != nil:
		return "its tokens cannot be checked: " + s.Unready.Error()
	case s.Introspection != nil && s.Introspection.Suspended:
		return "introspection is suspended after failures in a row"
	case s.Keys != nil && s.Keys.Fetched && s.Keys.Failure != nil:
		return "its keys are " + distance(now.Sub(s.Keys.At)) + " old, and the last fetch failed: " + s.Keys.Failure.Error()
	}
	return ""
}

func (v *view) keySet(s *validate.ServerStatus, settings *config.AuthorizationServer) *keySet {
	if s.Keys == nil {
		return nil
	}
	k := &keySet{From: "our own issuer", Count: s.Keys.Keys, Fetched: v.moment(s.Keys.At)}
	switch {
	case settings.KeySet.URL != nil:
		k.From = withoutQuery(&settings.KeySet.URL.URL)
	case settings.KeySet.File != "":
		k.From = string(settings.KeySet.File)
	case settings.KeySet.JWKS != "":
		k.From = "the configuration"
	case s.Keys.Fetched:
		k.From = "jwks_uri of its metadata"
	}
	if s.Keys.Failure != nil {
		at := v.moment(s.Keys.FailedAt)
		k.Failure, k.FailedAt = s.Keys.Failure.Error(), &at
	}
	return k
}

func (v *view) introspection(s *validate.ServerStatus) *introspection {
	if s.Introspection == nil {
		return nil
	}
	i := &introspection{State: "answering", Answered: v.moment(s.Introspection.Answered)}
	switch {
	case s.Introspection.Unready != nil:
		i.State = "not ready: " + s.Introspection.Unready.Error()
	case s.Introspection.Suspended:
		i.State = "suspended after failures in a row"
	case s.Introspection.Answered.IsZero():
		i.State = "no answer yet"
	case s.Introspection.FailedAt.After(s.Introspection.Answered):
		i.State = "failing"
	}
	if s.Introspection.Failure != nil {
		at := v.moment(s.Introspection.FailedAt)
		i.Failure, i.FailedAt = s.Introspection.Failure.Error(), &at
	}
	return i
}
