package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

func (p serversPage) html() g.Node {
	return p.layout(
		section("authorization", "Authorization servers", grid{
			caption: "Authorization servers", label: "Authorization servers", heads: heads("Server", "State", "Keys", "Introspection", "Setting"),
			rows: g.Map(p.Servers, server.node),
		}.node()),
		section("certificates", "Certificates, by their end", certificates(p.Certificates),
			g.If(p.More > 0, h.P(class("quiet"), g.Text(number(p.More)+" more end later.")))))
}

func (s server) node() g.Node {
	return h.Tr(
		rowHead(text(s.Name), h.Span(class("quiet under break"), text(s.Issuer))),
		h.Td(s.stateNode(), g.If(!s.Required, quietBelow(g.Text("not required for readiness")))),
		h.Td(s.Keys.node()), h.Td(s.Introspection.node()), h.Td(code(s.Position)))
}

func (k *keySet) node() g.Node {
	if k == nil {
		return quiet(g.Text("none needed"))
	}
	return g.Group{
		g.Text(plural(k.Count, "key") + ", "), timeAgo(k.Fetched), h.Span(class("quiet under break"), g.Text("from "), text(k.From)),
		failure("last fetch failed ", k.FailedAt, k.Failure),
	}
}

func (i *introspection) node() g.Node {
	if i == nil {
		return quiet(g.Text("not used"))
	}
	return g.Group{text(i.State), quietBelow(g.Text("last answer "), timeAgo(i.Answered)), failure("last failure ", i.FailedAt, i.Failure)}
}

// failure returns when and why something failed, or nil if why is empty.
func failure(what string, at *moment, why string) g.Node {
	if why == "" || at == nil {
		return nil
	}
	return h.Span(class("under"), g.Text(what), timeAgo(*at), g.Text(": "), text(why))
}

func (p configurationPage) html() g.Node {
	gate := p.Gate
	reload := pill("fine", "fine")
	if gate.Fault != "" && gate.FaultAt != nil {
		reload = g.Group{pill("bad", "failed"), g.Text(" "), timeAgo(*gate.FaultAt), g.Text(". The previous configuration stays active."), h.Pre(text(gate.Fault))}
	}
	return p.layout(
		section("file", "The file", definitions(
			definition{"File", longCode(gate.File)},
			definition{"Hash", code(gate.Hash)},
			definition{"Loaded", g.Group{g.Text(gate.Loaded.Text() + ", "), timeAgo(gate.Loaded)}},
			definition{"Last reload", reload})),
		section("settings", "Settings that decide",
			h.P(g.Text("With the defaults. Secrets are in files, which are named and not shown. "), link("/partners", g.Text("Partners")), g.Text(" have pages of their own.")),
			p.Pager.node(),
			grid{class: "settings", caption: "Settings", label: "Settings", heads: heads("Setting", "Value", "Position"), rows: g.Map(p.Settings, setting.node)}.node(),
			p.Pager.node()))
}

func (s setting) node() g.Node {
	position := quiet(g.Text("default"))
	if s.Position != "" {
		position = code(s.Position)
	}
	return h.Tr(rowHead(code(s.Path)), h.Td(class("break"), text(s.Value)), h.Td(position))
}
