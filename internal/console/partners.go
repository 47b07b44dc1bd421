package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/history"
)

// A partnersPage lists the partners. The partners with most refusals come first.
type partnersPage struct {
	page
	Rows     []partnerRow
	Pager    pager     `json:"-"`
	Refusals []refusal // the refusals that match the search
}

// A partnerRow is the row of a partner.
type partnerRow struct {
	Name         string
	Link         string `json:"-"`
	Disabled     bool
	Applications []string // client ids
	More         int      // applications that are not shown
	APIs         []string
	Activity     history.Activity
	AnchorEnd    moment
	AnchorState  string
	CertEnd      moment
	CertState    string
}

const (
	partnersOnPage = 50
	// mostFound bounds the refusals that a search finds, and mostListed the applications and APIs of a row.
	mostFound  = 20
	mostListed = 4
)

func (c *console) partners(w http.ResponseWriter, r *http.Request) {
	v := c.view()
	query := strings.TrimSpace(access.Truncate(r.URL.Query().Get("q")))
	p := partnersPage{page: v.page("Partners", "/partners")}
	p.page.Query = query
	activities := v.History.Activities(v.now)
	var found []*config.Partner
	for i := range v.state.Config.Partners.List {
		if partner := &v.state.Config.Partners.List[i]; matches(partner, query) {
			found = append(found, partner)
		}
	}
	slices.SortStableFunc(found, func(a, b *config.Partner) int {
		x, y := activities[string(a.Name)], activities[string(b.Name)]
		return cmp.Or(cmp.Compare(y.Failed+y.Refused, x.Failed+x.Refused), strings.Compare(string(a.Name), string(b.Name)))
	})
	var from, to int
	p.Pager, from, to = newPager(r.URL, "page", len(found), partnersOnPage)
	for _, partner := range found[from:to] {
		p.Rows = append(p.Rows, v.partnerRow(partner, activities[string(partner.Name)]))
	}
	if query != "" {
		p.Refusals = v.findRefusals(query)
	}
	respond(w, r, http.StatusOK, p)
}

func (v *view) partnerRow(p *config.Partner, activity history.Activity) partnerRow {
	end := v.state.AnchorsEnd[p.Name]
	row := partnerRow{
		Name: string(p.Name), Link: partnerLink(string(p.Name)), Disabled: p.Disabled, Activity: activity,
		AnchorEnd: v.moment(end), AnchorState: endState(v.now, end, anchorEnding),
		CertEnd: v.moment(activity.CertificateEnd), CertState: endState(v.now, activity.CertificateEnd, partnerEnding),
	}
	for i := range p.Applications {
		for _, g := range p.Applications[i].APIs {
			if !slices.Contains(row.APIs, string(g.API)) && len(row.APIs) < mostListed {
				row.APIs = append(row.APIs, string(g.API))
			}
		}
		if i >= mostListed {
			row.More++
			continue
		}
		row.Applications = append(row.Applications, string(p.Applications[i].ClientID))
	}
	return row
}

// matches reports whether query is in the name of p, in a client id of p, or in a name of a certificate that p
// registers.
func matches(p *config.Partner, query string) bool {
	if query == "" {
		return true
	}
	query = strings.ToLower(query)
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), query) }
	return has(string(p.Name)) || slices.ContainsFunc(p.Applications, func(a config.Application) bool {
		return has(string(a.ClientID)) || has(a.Certificate.String())
	})
}

// findRefusals returns the refusals with query in a field of their line, such as a request id, a subject or
// an address.
func (v *view) findRefusals(query string) (found []refusal) {
	query = strings.ToLower(query)
	for _, r := range v.History.AllRefusals(func(r *history.Refusal) bool {
		return slices.ContainsFunc(r.Fields, func(f history.Field) bool { return strings.Contains(strings.ToLower(f.Value), query) })
	}) {
		if len(found) == mostFound {
			break
		}
		found = append(found, v.refusal(r))
	}
	return found
}

// A pager has the links to the pages of a long list.
type pager struct {
	Total, From, To int // From and To count from 1
	Previous, Next  string
}

// newPager returns the pager of the page that a parameter of u names, and the indexes of its rows.
func newPager(u *url.URL, parameter string, total, onPage int) (p pager, from, to int) {
	number, err := strconv.Atoi(u.Query().Get(parameter))
	if last := max(1, (total+onPage-1)/onPage); err != nil || number < 1 {
		number = 1
	} else {
		number = min(number, last)
	}
	from = (number - 1) * onPage
	to = min(from+onPage, total)
	link := func(n int) string {
		query := u.Query()
		query.Set(parameter, strconv.Itoa(n))
		return u.Path + "?" + query.Encode()
	}
	p = pager{Total: total, From: min(from+1, total), To: to}
	if number > 1 {
		p.Previous = link(number - 1)
	}
	if to < total {
		p.Next = link(number + 1)
	}
	return p, from, to
}
