package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A question asks which applications may send a request, and has the answer.
type question struct {
	Method, Host, Path string
	Hosts              []string // the hosts of all APIs, to choose from
	Asked              bool
	Problem            string // why there is no answer
	Found              []permission
	Applications       []permission // that may call
	More               int
}

// mostAnswers bounds the applications in an answer.
const mostAnswers = 200

// answer returns the question in the query of u with its answer. The route table of the gate decides which
// route the request has.
func (v *view) answer(u *url.URL) question {
	query := u.Query()
	q := question{
		Method: strings.ToUpper(strings.TrimSpace(access.Truncate(query.Get("method")))), Host: strings.TrimSpace(access.Truncate(query.Get("host"))),
		Path: strings.TrimSpace(access.Truncate(query.Get("path"))), Hosts: v.hosts(),
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	if q.Path == "" {
		return q
	}
	q.Asked = true
	if !strings.HasPrefix(q.Path, "/") {
		q.Path = "/" + q.Path
	}
	hosts := q.Hosts
	if q.Host != "" {
		hosts = []string{q.Host}
	}
	seen := make(map[string]bool)
	for _, host := range hosts {
		api, route := v.state.Route(q.Method, strings.Replace(host, "*.", "any.", 1), q.Path)
		if route == "" || seen[api+" "+route] {
			continue
		}
		seen[api+" "+route] = true
		for r := range v.routes(func(a *config.API, m config.Method) bool { return string(a.Name) == api && string(m) == q.Method }) {
			if r.Path == route {
				q.Found = append(q.Found, r)
				v.addCallers(&q, r)
			}
		}
	}
	if len(q.Found) == 0 {
		q.Problem = "No route matches, so no partner can call it."
	}
	return q
}

// addCallers adds the applications the applications that may call the route in r.
func (v *view) addCallers(q *question, r permission) {
	for partner, a := range v.applications() {
		if !a.MayCall(config.Name(r.API), r.Method) {
			continue
		}
		if len(q.Applications) == mostAnswers {
			q.More++
			continue
		}
		r.Partner, r.ClientID, r.Disabled = string(partner.Name), string(a.ClientID), partner.Disabled
		q.Applications = append(q.Applications, r)
	}
}

// hosts returns the hosts of all APIs.
func (v *view) hosts() (hosts []string) {
	for i := range v.state.Config.APIs {
		hosts = append(hosts, texts(v.state.Config.APIs[i].Hosts)...)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
