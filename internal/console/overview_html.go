package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

func (o overviewPage) html() g.Node {
	return o.layout(
		section("attention", "Needs attention", o.attention()),
		section("hour", "The last hour, by minute", charts(o.Charts, o.Minutes)),
		section("refused", "What is refused and what fails", h.Div(class("columns tallies"),
			o.Reasons.node("Reason", "by reason"), o.Partners.node("Partner", "by partner"), o.APIs.node("API", "by API"))),
		g.Iff(len(o.Handshakes.Rows) > 0, func() g.Node {
			return section("handshakes", "Failed TLS handshakes",
				h.P(g.Text("There was no request. "), link(partnerLink(unknownPartner), g.Text("Last lines of the log"))),
				h.Div(class("columns tallies"), o.Handshakes.node("Cause", "of handshakes, by cause")))
		}),
		h.Div(class("columns two"),
			section("ending", "Certificates that end next", certificates(o.Ending)),
			section("authorization", "Authorization servers", o.servers())),
		g.Iff(o.Revoked != nil, func() g.Node { return section("revocations", "Revocations", o.Revoked.summary()) }))
}

func (o overviewPage) attention() g.Node {
	if len(o.Notices) == 0 {
		return h.P(class("calm"), pill("fine", "fine"), g.Text(" Nothing needs an operator."))
	}
	return g.Group{
		h.Ul(class("notices"), g.Map(o.Notices, notice.node)),
		g.If(o.More > 0, h.P(g.Text(number(o.More)+" more are not shown."))),
	}
}

func (n notice) node() g.Node {
	grade := "Warning"
	if n.Critical {
		grade = "Critical"
	}
	return h.Li(class(badOrWarn(n.Critical)), h.Strong(g.Text(grade)), g.Text(" "), h.Span(class("text"), text(n.Text)), g.Text(" "),
		h.Span(class("links"), ifNonEmpty(n.Link, link(n.Link, text(n.Go))),
			ifNonEmpty(n.Runbook, g.Group{g.Text(" "), docsLink(n.Runbook, g.Text("Runbook"))})))
}

func (o overviewPage) servers() g.Node {
	return grid{caption: "Authorization servers", heads: heads("Server", "State", "Keys"), rows: g.Map(o.Servers, func(s server) g.Node {
		keys := quiet(g.Text("none, introspection"))
		if s.Keys != nil {
			keys = g.Group{g.Text(plural(s.Keys.Count, "key") + ", "), timeAgo(s.Keys.Fetched)}
		}
		return h.Tr(rowHead(text(s.Name)), h.Td(s.stateNode()), h.Td(keys))
	})}.node()
}

// stateNode returns the problem of s, or a mark that s has no problem.
func (s server) stateNode() g.Node {
	if s.Problem == "" {
		return pill("fine", "fine")
	}
	return g.Group{pill(badOrWarn(s.Required), "problem"), g.Text(" "), text(s.Problem)}
}

// node returns the table with a chart in each row. column is the heading of the names, and by says how the
// requests are counted.
func (t table) node(column, by string) g.Node {
	if len(t.Rows) == 0 {
		return h.Div(h.H3(text(column+"s")), h.P(class("quiet"), g.Text("Nothing in the last hour.")))
	}
	all := "Refused and failed requests " + by
	return h.Div(h.H3(text(column+"s")),
		grid{class: "tally", caption: all, label: all, heads: []g.Node{
			h.Th(h.Scope("col"), text(column)),
			h.Th(h.Scope("col"), class("spark-head"), h.Span(class("hidden"), g.Text("The last hour as a chart"))),
			numberHead("10 min"), numberHead("Hour"),
		}, rows: g.Map(t.Rows, tally.node)}.node(),
		g.If(t.More > 0, h.P(class("quiet"), g.Text(number(t.More)+" more are not shown."))))
}

func (t tally) node() g.Node {
	name := text(t.Name)
	if t.Link != "" {
		name = docsLink(t.Link, name)
	}
	serious := "serious"
	if t.Serious < t.Hour {
		serious = number(t.Serious) + " serious"
	}
	return h.Tr(g.If(t.Now > 0, class("now")),
		rowHead(name, g.If(t.Serious > 0, g.Group{g.Text(" "), pill("bad", serious)}), ifNonEmpty(t.Words.Fault, quietBelow(text(t.Words.Fault)))),
		h.Td(drawing("spark", "0 0 120 20", "120", "20", path("refused", t.Spark.All), ifNonEmpty(t.Spark.Serious, path("failed", t.Spark.Serious)))),
		numberCell(t.Now), numberCell(t.Hour))
}

// certificates returns the table of certificates by their end.
func certificates(all []certificate) g.Node {
	if len(all) == 0 {
		return h.P(class("quiet"), g.Text("No certificate is known."))
	}
	return grid{caption: "Certificates by their end", heads: heads("Certificate of", "Name", "Ends"), rows: g.Map(all, func(c certificate) g.Node {
		return h.Tr(h.Td(text(c.Role)), rowHead(linked(c.Link, c.Name)), h.Td(endDay(c.Ends, c.State)))
	})}.node()
}
