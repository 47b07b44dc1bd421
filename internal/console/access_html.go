package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

func (p accessPage) html() g.Node {
	columns := heads("Partner", "Application")
	return p.layout(
		section("question", "Who can call it?", p.Question.form(), p.Question.answer()),
		section("matrix", "Applications and APIs",
			h.P(g.Text("The methods that an application may use at each API. "), h.A(h.Href("/access.csv"), h.Download(""), g.Text("Every permission as CSV")), p.APIPager.inline()),
			p.Pager.node(),
			grid{
				class: "matrix", caption: "Methods by application and API", label: "Access matrix",
				heads: append(columns, heads(p.Columns...)...), rows: g.Map(p.Rows, accessRow.node),
			}.node(),
			p.Pager.node()))
}

// inline returns the links of a pager of APIs, for the middle of a sentence.
func (p pager) inline() g.Node {
	if p.Previous == "" && p.Next == "" {
		return nil
	}
	return g.Group{
		g.Textf(" · APIs %d–%d of %d", p.From, p.To, p.Total),
		ifNonEmpty(p.Previous, g.Group{g.Text(" "), link(p.Previous, g.Text("Previous APIs"))}),
		ifNonEmpty(p.Next, g.Group{g.Text(" "), link(p.Next, g.Text("Next APIs"))}),
	}
}

func (r accessRow) node() g.Node {
	return h.Tr(h.Td(link(r.Link, text(r.Partner)), disabledPill(r.Disabled)), rowHead(text(r.ClientID)), g.Map(r.Cells, cell.node))
}

func (c cell) node() g.Node {
	switch {
	case len(c.Methods) == 0:
		return h.Td(class("no"), h.Span(h.Aria("hidden", "true"), g.Text("–")), h.Span(class("hidden"), g.Text("none")))
	case c.Some:
		return h.Td(class("some"), c.methods(), quiet(g.Text("not all")))
	}
	return h.Td(class("all"), c.methods())
}

func (c cell) methods() g.Node {
	return g.Map(c.Methods, func(m string) g.Node { return g.Group{h.Span(class("method"), text(m)), g.Text(" ")} })
}

func (q question) form() g.Node {
	return h.Form(class("question"), h.Action("/access"),
		h.Label(g.Text("Method "), h.Input(h.Name("method"), attr("value", q.Method), g.Attr("size", "8"), h.AutoComplete("off"))),
		h.Label(g.Text("Path "), h.Input(h.Name("path"), attr("value", q.Path), g.Attr("size", "32"), h.Placeholder("/payments"), h.Required(), h.AutoComplete("off"))),
		h.Label(g.Text("Host "), h.Select(h.Name("host"), h.Option(h.Value(""), g.Text("any")),
			g.Map(q.Hosts, func(host string) g.Node { return h.Option(g.If(host == q.Host, h.Selected()), text(host)) }))),
		h.Button(g.Text("Ask")))
}

func (q question) answer() g.Node {
	switch {
	case !q.Asked:
		return nil
	case q.Problem != "":
		return h.P(pill("warn", "no partner"), g.Text(" "), text(q.Problem))
	}
	var found g.Group
	for i, r := range q.Found {
		if i > 0 {
			found = append(found, g.Text("; "))
		}
		found = append(found, h.Code(text(r.Method+" "+r.Path)), g.Text(" of API "), text(r.API), g.Text(" ("), code(r.Position), g.Text(")"))
	}
	more := ""
	if q.More > 0 {
		more = ", and " + number(q.More) + " more"
	}
	return g.Group{
		h.P(found, g.Text(": "+plural(len(q.Applications), "application")+" may call it"+more+".")),
		g.Iff(len(q.Applications) > 0, func() g.Node { return callers(q.Applications) }),
	}
}

func callers(all []permission) g.Node {
	return grid{
		caption: "Applications that may call it", label: "Applications that may call it", heads: heads("Partner", "Application", "Host", "Token needs"),
		rows: g.Map(all, func(p permission) g.Node {
			return h.Tr(h.Td(link(partnerLink(p.Partner), text(p.Partner)), disabledPill(p.Disabled)), rowHead(text(p.ClientID)), h.Td(withSpaces(p.Hosts)), h.Td(p.needs()))
		}),
	}.node()
}

// needs returns what the token of a call must have.
func (p permission) needs() g.Node {
	return g.Group{tags(p.Scopes, g.Group{quiet(g.Text("no scope")), g.Text(" ")}), quiet(g.Text("bound to " + p.Binding))}
}
