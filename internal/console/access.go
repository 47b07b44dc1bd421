package console

import (
	"encoding/csv"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// An accessPage shows, for an audit, which application may call which route.
type accessPage struct {
	page
	Columns  []string // APIs
	Rows     []accessRow
	Pager    pager `json:"-"`
	APIPager pager `json:"-"`
	Question question
}

// An accessRow is an application with the methods that it may use at each API.
type accessRow struct {
	Partner, Link, ClientID string
	Disabled                bool
	Cells                   []cell
}

// A cell has the methods that an application may use at an API.
type cell struct {
	API     string
	Methods []string
	Some    bool // the grant has some of the API's methods
}

const (
	applicationsOnPage = 50
	apisOnPage         = 8
)

func (c *console) access(w http.ResponseWriter, r *http.Request) {
	v := c.view()
	apis := v.state.Config.APIs
	p := accessPage{page: v.page("Access", "/access")}
	p.Question = v.answer(r.URL)
	var from, to int
	p.APIPager, from, to = newPager(r.URL, "columns", len(apis), apisOnPage)
	shown := apis[from:to]
	for i := range shown {
		p.Columns = append(p.Columns, string(shown[i].Name))
	}
	total := 0
	for i := range v.state.Config.Partners.List {
		total += len(v.state.Config.Partners.List[i].Applications)
	}
	p.Pager, from, to = newPager(r.URL, "page", total, applicationsOnPage)
	n := 0
	for partner, a := range v.applications() {
		if n >= from && n < to {
			p.Rows = append(p.Rows, row(partner, a, shown))
		}
		if n++; n >= to {
			break
		}
	}
	respond(w, r, http.StatusOK, p)
}

// applications iterates over the applications of all partners.
func (v *view) applications() iter.Seq2[*config.Partner, *config.Application] {
	return func(yield func(*config.Partner, *config.Application) bool) {
		for i := range v.state.Config.Partners.List {
			p := &v.state.Config.Partners.List[i]
			for j := range p.Applications {
				if !yield(p, &p.Applications[j]) {
					return
				}
			}
		}
	}
}

func row(p *config.Partner, a *config.Application, apis []config.API) accessRow {
	r := accessRow{Partner: string(p.Name), Link: partnerLink(string(p.Name)), ClientID: string(a.ClientID), Disabled: p.Disabled}
	for i := range apis {
		r.Cells = append(r.Cells, newCell(a, &apis[i]))
	}
	return r
}

func newCell(a *config.Application, api *config.API) cell {
	c := cell{API: string(api.Name)}
	for i := range api.Routes {
		for _, m := range api.Routes[i].Methods {
			switch {
			case slices.Contains(c.Methods, string(m)):
			case a.MayCall(api.Name, string(m)):
				c.Methods = append(c.Methods, string(m))
			default:
				c.Some = true
			}
		}
	}
	slices.SortFunc(c.Methods, compareMethods)
	return c
}

// compareMethods sorts methods in the order that readers expect.
func compareMethods(a, b string) int {
	order := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	x, y := slices.Index(order, a), slices.Index(order, b)
	if x < 0 || y < 0 {
		return strings.Compare(a, b)
	}
	return x - y
}

// A permission is a route that an application may call with a method.
type permission struct {
	Partner, ClientID string
	Disabled          bool // the partner is disabled, so the gate refuses the call
	API, Method       string
	Hosts             []string
	Path              string
	Scopes            []string // the scopes that the token must have
	Binding           string   // the binding that the token needs
	Position          string
}

// permissions iterates over the routes that the applications of p may call.
func (v *view) permissions(p *config.Partner) iter.Seq[permission] {
	return func(yield func(permission) bool) {
		for i := range p.Applications {
			a := &p.Applications[i]
			for r := range v.routes(func(api *config.API, m config.Method) bool { return a.MayCall(api.Name, string(m)) }) {
				r.Partner, r.ClientID, r.Disabled = string(p.Name), string(a.ClientID), p.Disabled
				if !yield(r) {
					return
				}
			}
		}
	}
}

// routes iterates over the routes of all APIs, with each API and method for which accept returns true.
func (v *view) routes(accept func(*config.API, config.Method) bool) iter.Seq[permission] {
	return func(yield func(permission) bool) {
		for i := range v.state.Config.APIs {
			api := &v.state.Config.APIs[i]
			for j := range api.Routes {
				route := &api.Routes[j]
				for _, m := range route.Methods {
					if accept(api, m) && !yield(permission{
						API: string(api.Name), Method: string(m), Hosts: texts(api.Hosts), Path: route.Path.String(), Scopes: texts(route.Scopes),
						Binding: string(api.Binding), Position: v.position("apis[%d].routes[%d]", i, j),
					}) {
						return
					}
				}
			}
		}
	}
}

// accessCSV writes every permission of every application. It keeps no list of them, because a fleet
// has hundreds of thousands of permissions.
func (c *console) accessCSV(w http.ResponseWriter, _ *http.Request) {
	v := c.view()
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="tallygate-access.csv"`)
	out := csv.NewWriter(w)
	_ = out.Write([]string{"partner", "disabled", "application", "api", "hosts", "method", "path", "scopes", "binding"})
	for i := range v.state.Config.Partners.List {
		for p := range v.permissions(&v.state.Config.Partners.List[i]) {
			if out.Write([]string{
				harmless(p.Partner), fmt.Sprint(p.Disabled), harmless(p.ClientID), harmless(p.API), harmless(strings.Join(p.Hosts, " ")),
				harmless(p.Method), harmless(p.Path), harmless(strings.Join(p.Scopes, " ")), harmless(p.Binding),
			}) != nil {
				return
			}
		}
	}
	out.Flush()
}

// harmless returns s as a cell that no spreadsheet takes for a formula. A spreadsheet recognises a
// formula by its first character, and skips white space before it.
func harmless(s string) string {
	if trimmed := strings.TrimLeft(s, " \t\r\n"); trimmed != s || trimmed != "" && strings.ContainsRune("=+-@|%", rune(trimmed[0])) {
		return "'" + s
	}
	return s
}

func texts[T ~string](values []T) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = string(v)
	}
	return all
}
