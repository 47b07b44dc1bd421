package console

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/history"
)

// mostNotices bounds the notices of the overview: a fleet may have thousands of certificates that end.
const mostNotices = 25

// A notice tells the operator of a problem. Notices have the thresholds of the alerts in deploy/prometheus.
type notice struct {
	Critical bool
	Text     string
	Link     string `json:"-"` // the page that says more
	Go       string `json:"-"` // the text of the link
	Runbook  string `json:",omitempty"`
}

// notices returns the notices of all kinds, the critical notices first.
func (v *view) notices(rows []history.Row, all *history.Window, activities map[string]history.Activity, ends []ending) (found []notice) {
	add := func(n notice) {
		if n.Runbook != "" {
			n.Runbook = documentation + "docs/runbooks.md#" + n.Runbook
		}
		found = append(found, n)
	}
	v.noticeGate(add)
	v.noticeTokens(rows, add)
	v.noticeFailures(rows, all, add)
	noticeHandshakes(rows, all, add)
	v.noticePartners(rows, activities, add)
	v.noticeServers(add)
	v.noticeRevocations(add)
	v.noticeCertificates(ends, add)
	slices.SortStableFunc(found, func(a, b notice) int {
		switch {
		case a.Critical == b.Critical:
			return 0
		case a.Critical:
			return -1
		}
		return 1
	})
	return found
}

func (v *view) noticeGate(add func(notice)) {
	s := v.state
	if s.Fault != "" {
		add(notice{Critical: true, Text: "The configuration was not reloaded, and the previous one stays active: " + s.Fault, Link: "/configuration", Go: "Configuration", Runbook: "tallygatereloadfailed"})
	}
	for _, text := range s.Weakened[:min(mostOfKind, len(s.Weakened))] {
		add(notice{Text: "A setting weakens a check: " + text + ".", Link: "/configuration", Go: "Configuration"})
	}
	if more := len(s.Weakened) - mostOfKind; more > 0 {
		add(notice{Text: number(more) + " more settings weaken a check.", Link: "/configuration", Go: "Configuration"})
	}
	switch {
	case s.Draining:
		add(notice{Text: "The gate is draining: it is about to stop."})
	case s.Unready != "":
		add(notice{Critical: true, Text: "The gate is not ready: " + s.Unready, Link: "/servers", Go: "Servers"})
	}
}

// A partnerAPI is a partner with an API that the partner calls.
type partnerAPI struct{ partner, api string }

// sums adds up the counts of the last minutes in the rows whose reason is in reasons, by partner and API.
// keys begins with the highest count.
func sums(rows []history.Row, minutes int, reasons ...access.Reason) (keys []partnerAPI, counts map[partnerAPI]int) {
	counts = make(map[partnerAPI]int)
	for i := range rows {
		r := &rows[i]
		n := r.Last(minutes)
		if n == 0 || !slices.ContainsFunc(reasons, func(reason access.Reason) bool { return reason.String() == r.Reason }) {
			continue
		}
		key := partnerAPI{r.Partner, r.API}
		if counts[key] == 0 {
			keys = append(keys, key)
		}
		counts[key] += n
	}
	slices.SortFunc(keys, func(a, b partnerAPI) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a.partner, b.partner), cmp.Compare(a.api, b.api))
	})
	return keys, counts
}

// noticeTokens reports tokens that are bound to another certificate or key, and calls that are not
// allowed. It reports a token that may be stolen for a whole hour, because a single such request is a
// reason to act.
func (v *view) noticeTokens(rows []history.Row, add func(notice)) {
	keys, counts := sums(rows, history.Minutes, access.BoundToOther, access.BoundToOtherKey)
	addCalls(keys, add, notice{Critical: true, Runbook: "tallygatetokenboundtoother"}, func(k partnerAPI) string {
		return partnerName(k.partner) + " called " + apiName(k.api) + " " + times(counts[k]) + " in the last hour with a token that is bound to another certificate or key. The token may be stolen."
	})
	keys, counts = sums(rows, recent, access.BoundToPrevious)
	addCalls(keys, add, notice{Runbook: "tallygatetokenboundtoprevious"}, func(k partnerAPI) string {
		return partnerName(k.partner) + " has renewed its certificate and called " + apiName(k.api) + " " + times(counts[k]) + " with a token of the previous certificate."
	})
	keys, counts = sums(rows, recent, access.APINotAllowed)
	keys = slices.DeleteFunc(keys, func(k partnerAPI) bool { return counts[k] <= 10 || k.partner == unknownPartner })
	addCalls(keys, add, notice{Runbook: "tallygatecallsnotallowed"}, func(k partnerAPI) string {
		return partnerName(k.partner) + " called what it may not call at " + apiName(k.api) + ", " + times(counts[k]) + " in the last ten minutes."
	})
}

// mostOfKind bounds the notices of one kind, so that a partner that calls many APIs hides no other notice.
const mostOfKind = 5

// addCalls adds a copy of n with its text for each key, and at most mostOfKind of them.
func addCalls(keys []partnerAPI, add func(notice), n notice, text func(partnerAPI) string) {
	for i, k := range keys {
		if i == mostOfKind {
			n.Text, n.Link, n.Go = "The same of "+number(len(keys)-mostOfKind)+" more pairs of partner and API.", "/partners", "Partners"
			add(n)
			return
		}
		n.Text, n.Link, n.Go = text(k), partnerLink(k.partner), partnerName(k.partner)
		add(n)
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return number(n) + " times"
}

// recentRequests returns the number of recent requests. It leaves out refused requests of unknown callers,
// because any client can send so many of them that every share becomes small.
func recentRequests(rows []history.Row, all *history.Window) int {
	n := all.Sum(history.Granted, recent) + all.Sum(history.Refused, recent) + all.Sum(history.Failed, recent)
	for i := range rows {
		if r := &rows[i]; r.Partner == unknownPartner && r.Outcome == history.Refused {
			n -= r.Last(recent)
		}
	}
	return n
}

// noticeFailures reports requests that failed through a fault of the gate or the API, by reason and API.
func (v *view) noticeFailures(rows []history.Row, all *history.Window, add func(notice)) {
	requests := recentRequests(rows, all)
	failed := make(map[[2]string]int)
	for i := range rows {
		if r := &rows[i]; r.Outcome == history.Failed {
			failed[[2]string{r.Reason, r.API}] += r.Last(recent)
		}
	}
	keys := make([][2]string, 0, len(failed))
	for k := range failed {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(failed[b], failed[a]), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, k := range keys {
		// 1.44 % burns the error budget of a month at 14.4 times its rate.
		if n := failed[k]; float64(n) > 14.4*0.001*float64(requests) {
			runbook := "tallygateerrorbudgetburn"
			if strings.HasPrefix(k[0], "upstream_") {
				runbook = "tallygateupstreamfailing"
			}
			add(notice{Critical: true, Runbook: runbook, Link: meanings[k[0]].See, Go: k[0],
				Text: k[0] + ": " + number(n) + " requests to " + apiName(k[1]) + " failed in the last ten minutes, " + percent(n, requests) + " of all requests. At fault: " + cmp.Or(meanings[k[0]].Fault, "the gate") + "."})
		}
	}
}

// noticeHandshakes reports more than 30 failed handshakes in ten minutes, if they are more than a tenth of the
// requests. The alert compares them with all handshakes, which the history does not count.
func noticeHandshakes(rows []history.Row, all *history.Window, add func(notice)) {
	requests := recentRequests(rows, all)
	if n := all.Sum(history.Handshake, recent); n > 30 && 10*n > requests {
		add(notice{Runbook: "tallygatehandshakesfailing", Link: partnerLink(unknownPartner), Go: partnerName(unknownPartner),
			Text: number(n) + " TLS handshakes failed in the last ten minutes."})
	}
}

// noticePartners reports partners with more than six refused requests a minute, if these are more than a fifth
// of the partner's requests.
func (v *view) noticePartners(rows []history.Row, activities map[string]history.Activity, add func(notice)) {
	refused := make(map[string]int)
	for i := range rows {
		if r := &rows[i]; r.Outcome == history.Refused {
			refused[r.Partner] += r.Last(recent)
		}
	}
	names := make([]string, 0, len(refused))
	for name, n := range refused {
		if n > 6*recent && name != unknownPartner && name != history.OtherPartners {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(refused[b], refused[a]), cmp.Compare(a, b)) })
	for _, name := range names[:min(mostOfKind, len(names))] {
		if n, of := refused[name], refused[name]+activities[name].GrantedNow; 5*n > of {
			add(notice{Runbook: "tallygatepartnerrefused", Link: partnerLink(name), Go: name,
				Text: percent(n, of) + " of the requests of " + name + " were refused in the last ten minutes: " + number(n) + "."})
		}
	}
}

func (v *view) noticeServers(add func(notice)) {
	for _, s := range v.servers() {
		if s.Problem != "" {
			add(notice{Critical: s.Required, Link: "/servers", Go: "Servers", Text: "Authorization server " + s.Name + ": " + s.Problem})
		}
	}
}

// noticeCertificates reports the certificates that have expired or end soon, with one notice for each role and
// state.
func (v *view) noticeCertificates(ends []ending, add func(notice)) {
	groups := make(map[[2]string][]ending)
	for _, e := range ends {
		groups[[2]string{e.role, e.state}] = append(groups[[2]string{e.role, e.state}], e)
	}
	for _, role := range []string{listenerRole, anchorRole, clientRole} {
		if expired := groups[[2]string{role, "expired"}]; role != clientRole { // the partner may have renewed a client certificate
			v.addEnding(expired, true, add)
		}
		v.addEnding(groups[[2]string{role, "soon"}], false, add)
	}
}

// mostNamed bounds the names in a notice.
const mostNamed = 3

// addEnding reports all, certificates of one role and state, sorted by their ends.
func (v *view) addEnding(all []ending, expired bool, add func(notice)) {
	if len(all) == 0 {
		return
	}
	first := all[0]
	var names []string
	for _, e := range all[:min(mostNamed, len(all))] {
		names = append(names, e.name)
	}
	text := first.role + " " + strings.Join(names, ", ")
	if extra := len(all) - mostNamed; extra > 0 {
		text += " and " + number(extra) + " more"
	}
	n := notice{Critical: expired, Text: text + ": the certificate ends " + ago(v.now, first.end) + "."}
	if expired {
		n.Text = text + ": the certificate has expired, " + ago(v.now, first.end) + "."
	}
	switch n.Link, n.Go = "/servers", "Certificates"; {
	case first.role == anchorRole && expired:
		n.Runbook = "tallygatetrustanchorexpired"
	case first.role == anchorRole:
		n.Runbook = "tallygatetrustanchorending"
	case first.role == listenerRole:
		n.Runbook = "tallygatecertificateending"
	default:
		n.Runbook = "tallygatepartnercertificateending"
	}
	if len(all) == 1 && first.partner {
		n.Link, n.Go = partnerLink(first.name), first.name
	}
	add(n)
}
