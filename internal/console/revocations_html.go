package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// kindMeanings say what a revocation of each kind refuses.
var kindMeanings = map[string]string{
	"token":           "one token of our issuer, until ten minutes after its end",
	"application":     "the tokens that the application got until a time",
	"partner":         "the tokens that the partner's applications got until a time",
	"certificate":     "the certificate, and every token bound to it, for ever",
	"foreign_token":   "one token of another authorization server, for 31 days",
	"foreign_subject": "the tokens that a subject or client got from another authorization server until a time",
}

func (p revocationsPage) html() g.Node {
	if p.revocationsPart == nil {
		return p.layout(section("none", "No source of revocations",
			h.P(g.Text("The configuration has neither "), code("revocations"), g.Text(" nor "), code("issuer"),
				g.Text(", so this gate does not learn what an issuer revokes. "), docsLink(documentation+"docs/revocation.md", g.Text("Revocation")))))
	}
	return p.layout(
		g.Iff(p.Feed != nil, func() g.Node { return section("feed", "The revocation feed", p.Feed.node()) }),
		g.Iff(p.Log != nil, func() g.Node { return section("log", "The issuer's log", p.Log.node()) }),
		h.Div(class("columns two"),
			section("force", "Revocations in force", entriesTable(p.Entries)),
			section("last", "Last revocations", eventsTable(p.Events))))
}

func (f *revocationFeed) node() g.Node {
	return definitions(
		definition{"Stream", f.stream()},
		definition{"Set", f.state()},
		definition{"Complete as of", timeAgo(f.synced)},
		definition{"Position", longCode(f.Position)},
		definition{"When stale", g.Group{code(f.WhenStale), g.Text(", after " + f.MaxStaleness)}},
		definition{"Last failure", ifNonEmpty(f.Failure, text(f.Failure))},
		definition{"Setting", g.Group{code(f.SettingAt), g.Text(" "), docsLink(documentation+"docs/revocation.md", g.Text("Revocation"))}})
}

// stream says whether the stream is open, and to which host.
func (f *revocationFeed) stream() g.Node {
	host := g.Group{g.Text(" " + f.Server), ifNonEmpty(f.Host, g.Group{g.Text(" at "), longCode(f.Host)}), g.Text(", since "), timeAgo(f.since)}
	if f.Connected {
		return g.Group{pill("fine", "connected"), host}
	}
	return g.Group{pill("warn", "not connected"), host}
}

// state says whether the set is complete.
func (f *revocationFeed) state() g.Node {
	switch {
	case f.Full:
		return g.Group{pill("bad", "full"), g.Text(" A revocation had no room. "), text(f.Stale)}
	case f.Stale != "":
		return g.Group{pill("bad", "stale"), g.Text(" "), text(f.Stale)}
	}
	return pill("fine", "complete")
}

func (l *RevocationLog) node() g.Node {
	state := pill("fine", "complete")
	if l.Unknown != "" {
		state = g.Group{pill("bad", "unknown"), g.Text(" "), text(l.Unknown)}
	}
	return definitions(
		definition{"State", state},
		definition{"Position", longCode(l.Position)},
		definition{"Subscribers", g.Text(plural(l.Subscribers, "gate"))})
}

func entriesTable(all []RevocationEntries) g.Node {
	return grid{caption: "Revocations in force by kind", heads: append(heads("Kind", "Refuses"), numberHead("Number")), rows: g.Map(all, func(e RevocationEntries) g.Node {
		return h.Tr(rowHead(code(e.Kind)), h.Td(text(kindMeanings[e.Kind])), numberCell(e.Count))
	})}.node()
}

func eventsTable(all []revocationEvent) g.Node {
	if len(all) == 0 {
		return h.P(class("quiet"), g.Text("Nothing was revoked since the start of this process."))
	}
	return grid{caption: "Last revocations", heads: heads("When", "Kind", "What"), rows: g.Map(all, func(e revocationEvent) g.Node {
		return h.Tr(h.Td(timeAgo(e.at)), h.Td(code(e.Kind)), rowHead(longCode(e.Subject)))
	})}.node()
}

// summary returns the part of the overview about revocations.
func (p *revocationsPart) summary() g.Node {
	var rows []definition
	if f := p.Feed; f != nil {
		rows = append(rows, definition{"Feed", f.stream()}, definition{"Set", g.Group{f.state(), g.Text(" as of "), timeAgo(f.synced)}})
	}
	if l := p.Log; l != nil {
		rows = append(rows, definition{"Subscribers", g.Text(plural(l.Subscribers, "gate"))})
	}
	count := 0
	for _, e := range p.Entries {
		count += e.Count
	}
	return definitions(append(rows, definition{"In force", link("/revocations", g.Text(plural(count, "revocation")))})...)
}
