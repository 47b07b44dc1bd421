package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tallygate/tallygate/internal/history"
)

// recent is the number of minutes that the overview calls now.
const recent = 10

// mostRows bounds the rows of each table of the overview.
const mostRows = 10

// An overviewPage shows which requests fail or are refused now, of which partners, and who is at fault.
type overviewPage struct {
	page
	Notices    []notice
	More       int           // notices that are not shown
	Charts     []chart       `json:"-"`
	Minutes    []minute      // the charts as a table
	Totals     totals        // of the last hour
	Reasons    table         // refused and failed requests by reason
	Partners   table         // by partner
	APIs       table         // by API
	Handshakes table         // failed handshakes by cause; they have no partner and no API
	Ending     []certificate // the certificates that end first
	Servers    []server
	Revoked    *revocationsPart `json:",omitempty"`
}

// totals counts the requests totals of the last hour.
type totals struct{ Granted, Refused, Failed int }

// A table has a row for each reason, partner or API with refused or failed requests in the last hour.
type table struct {
	Rows []tally
	More int // rows that are not shown
}

// A tally counts refused and failed requests.
type tally struct {
	Name    string
	Link    string `json:"-"`
	Now     int    // in the last ten minutes
	Hour    int
	Serious int   // in the last hour: the gate or the API is at fault, or a token may be stolen
	Spark   spark `json:"-"`
	Words   words
	counts  [history.Minutes]int
	serious [history.Minutes]int
}

func (c *console) overview(w http.ResponseWriter, r *http.Request) {
	v := c.view()
	respond(w, r, http.StatusOK, v.overview())
}

func (v *view) overview() overviewPage {
	rows, all := v.History.Rows(v.now)
	rows, handshakes := split(rows)
	activities := v.History.Activities(v.now)
	ends := v.endings(activities)
	o := overviewPage{
		page: v.page("Overview", "/"), Minutes: v.minutes(&all), Servers: v.servers(), Revoked: v.revocationsPart(), Ending: v.shown(ends, mostEnding),
		Totals: totals{all.Sum(history.Granted, history.Minutes), all.Sum(history.Refused, history.Minutes), all.Sum(history.Failed, history.Minutes)},
		Charts: []chart{
			newChart("All requests", &all, history.Granted, history.Refused, history.Failed),
			newChart("Refused and failed requests", &all, history.Refused, history.Failed),
		},
	}
	o.Reasons = tallyBy(rows, func(r *history.Row) tally {
		return tally{Name: r.Reason, Words: meanings[r.Reason], Link: meanings[r.Reason].See}
	})
	o.Partners = tallyBy(rows, func(r *history.Row) tally { return tally{Name: partnerName(r.Partner), Link: partnerLink(r.Partner)} })
	o.APIs = tallyBy(rows, func(r *history.Row) tally { return tally{Name: apiName(r.API)} })
	o.Handshakes = tallyBy(handshakes, func(r *history.Row) tally {
		w := meanings[r.Reason]
		w.See = documentation + "docs/logs.md#failed-handshakes"
		return tally{Name: r.Reason, Words: w, Link: w.See}
	})
	o.Notices = v.notices(rows, &all, activities, ends)
	if extra := len(o.Notices) - mostNotices; extra > 0 {
		o.Notices, o.More = o.Notices[:mostNotices], extra
	}
	return o
}

// split separates the failed handshakes from the requests in rows.
func split(rows []history.Row) (requests, handshakes []history.Row) {
	for _, r := range rows {
		if r.Outcome == history.Handshake {
			handshakes = append(handshakes, r)
		} else {
			requests = append(requests, r)
		}
	}
	return requests, handshakes
}

// tallyBy adds up the rows for which name returns the same Name. Rows with serious requests come
// first, and then the rows with most requests now.
func tallyBy(rows []history.Row, name func(*history.Row) tally) (t table) {
	byName := make(map[string]*tally)
	for i := range rows {
		r := &rows[i]
		fresh := name(r)
		sum := byName[fresh.Name]
		if sum == nil {
			sum = &fresh
			byName[fresh.Name] = sum
		}
		sum.Now += r.Last(recent)
		sum.Hour += r.Last(history.Minutes)
		bad := isSerious(r.Reason, r.Outcome == history.Failed)
		for m, n := range r.Counts {
			sum.counts[m] += n
			if bad {
				sum.serious[m] += n
				sum.Serious += n
			}
		}
	}
	for _, sum := range byName {
		t.Rows = append(t.Rows, *sum)
	}
	slices.SortFunc(t.Rows, func(a, b tally) int {
		return cmp.Or(cmp.Compare(min(b.Serious, 1), min(a.Serious, 1)), cmp.Compare(b.Now, a.Now), cmp.Compare(b.Hour, a.Hour), cmp.Compare(a.Name, b.Name))
	})
	if len(t.Rows) > mostRows {
		t.More, t.Rows = len(t.Rows)-mostRows, t.Rows[:mostRows]
	}
	for i := range t.Rows {
		t.Rows[i].Spark = newSpark(&t.Rows[i].counts, &t.Rows[i].serious)
	}
	return t
}

func partnerName(name string) string {
	switch name {
	case history.OtherPartners:
		return "further partners"
	case unknownPartner:
		return "no known partner"
	}
	return name
}

func partnerLink(name string) string {
	if name == history.OtherPartners {
		return ""
	}
	return "/partner?name=" + url.QueryEscape(name)
}

func apiName(name string) string {
	switch name {
	case "none":
		return "no API at this host"
	case "unmatched":
		return "no route matches"
	}
	return name
}

// A certificate is the row of a certificate of the gate or of a partner.
type certificate struct {
	Role  string // one of the roles below
	Name  string // the name of the listener or the partner
	Link  string `json:"-"`
	Ends  moment
	State string // expired, soon or fine
}

// The roles of certificates.
const (
	listenerRole = "Listener"
	anchorRole   = "Anchor of partner"
	clientRole   = "Client of partner"
)

// mostEnding bounds the certificates that the overview shows.
const mostEnding = 6

// A certificate is in the notices for this time before its end, as in the alerts. The time depends on its role.
const (
	listenerEnding = 7 * 24 * time.Hour
	anchorEnding   = 30 * 24 * time.Hour
	partnerEnding  = 14 * 24 * time.Hour
)

// An ending is the end of a certificate. A fleet has thousands of certificates, so shown makes the
// texts only for the certificates that a page shows.
type ending struct {
	role, name string
	partner    bool // name is a partner
	end        time.Time
	state      string
}

// endings returns the ends of the certificates of all roles, sorted by time.
func (v *view) endings(activities map[string]history.Activity) (all []ending) {
	add := func(role, name string, end time.Time, soon time.Duration) {
		all = append(all, ending{role, name, role != listenerRole, end, endState(v.now, end, soon)})
	}
	for _, c := range v.state.Certificates {
		add(listenerRole, c.Listener, c.NotAfter, listenerEnding)
	}
	for i := range v.state.Config.Partners.List {
		p := &v.state.Config.Partners.List[i]
		if end := v.state.AnchorsEnd[p.Name]; !end.IsZero() && !p.Disabled {
			add(anchorRole, string(p.Name), end, anchorEnding)
		}
		if end := activities[string(p.Name)].CertificateEnd; !end.IsZero() {
			add(clientRole, string(p.Name), end, partnerEnding)
		}
	}
	slices.SortStableFunc(all, func(a, b ending) int { return a.end.Compare(b.end) })
	return all
}

// shown returns the rows of the first certificates in all. most is the greatest number of rows.
func (v *view) shown(all []ending, most int) (shown []certificate) {
	for _, e := range all[:min(most, len(all))] {
		c := certificate{Role: e.role, Name: e.name, Ends: v.moment(e.end), State: e.state}
		if e.partner {
			c.Link = partnerLink(e.name)
		}
		shown = append(shown, c)
	}
	return shown
}

func endState(now, end time.Time, soon time.Duration) string {
	switch {
	case !now.Before(end):
		return "expired"
	case end.Sub(now) < soon:
		return "soon"
	}
	return "fine"
}
