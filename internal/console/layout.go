package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// navigation has the pages in the order of the navigation.
var navigation = []struct{ path, name string }{
	{"/", "Overview"}, {"/partners", "Partners"}, {"/access", "Access"}, {"/servers", "Servers"}, {"/revocations", "Revocations"}, {"/configuration", "Configuration"},
}

// layout returns the whole page with the given content.
func (p page) layout(content ...g.Node) g.Node {
	return h.Doctype(h.HTML(h.Lang("en"), p.head(), h.Body(
		h.A(class("skip"), h.Href("#main"), g.Text("Skip to the content")),
		h.Header(h.Div(class("bar"),
			h.A(class("brand"), h.Href("/"), h.Img(h.Src(assetURL("icon.svg")), h.Alt(""), h.Width("24"), h.Height("24")), g.Text("tallygate")),
			p.links(), p.search())),
		h.Main(h.ID("main"), h.TabIndex("-1"), p.title(), g.Group(content)),
		h.Footer(h.P(g.Text("Read-only. Times are UTC. The counts are of this gate alone, since its start or for an hour. "),
			docsLink(documentation+"docs/console.md", g.Text("About this console")))),
	)))
}

func (p page) head() g.Node {
	return h.Head(
		h.Meta(h.Charset("utf-8")),
		h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
		h.Meta(h.Name("color-scheme"), h.Content("light dark")),
		h.TitleEl(text(p.Title), g.Text(" · tallygate console")),
		h.Link(h.Rel("icon"), h.Href(assetURL("icon.svg")), h.Type("image/svg+xml")),
		h.Link(h.Rel("stylesheet"), h.Href(assetURL("style.css"))),
		h.Script(h.Src(assetURL("refresh.js")), h.Defer()))
}

func (p page) links() g.Node {
	return h.Nav(h.Aria("label", "Pages"), h.Ul(g.Map(navigation, func(n struct{ path, name string }) g.Node {
		if n.path == "/revocations" && !p.Gate.knowsRevocations && p.Nav != n.path {
			return nil
		}
		return h.Li(h.A(h.Href(n.path), g.If(n.path == p.Nav, h.Aria("current", "page")), g.Text(n.name)))
	})))
}

func (p page) search() g.Node {
	return h.Form(class("find"), h.Role("search"), h.Action("/partners"),
		h.Label(h.For("q"), class("hidden"), g.Text("Find a partner, client id, certificate, address or request id")),
		h.Input(h.ID("q"), h.Name("q"), h.Type("search"), attr("value", p.Query), h.Placeholder("Partner or request id")),
		h.Button(g.Text("Find")))
}

// title returns the heading of the page and the state of the gate.
func (p page) title() g.Node {
	kind := "bad"
	switch p.Gate.State {
	case "ready":
		kind = "fine"
	case "draining":
		kind = "warn"
	}
	loaded := p.Gate.Loaded
	return h.Div(class("title"),
		h.H1(text(p.Title)),
		h.P(class("state"), pill(kind, p.Gate.State),
			g.Text(" "), h.Span(g.Text("up "+p.Gate.Up)),
			g.Text(" "), h.Span(g.Text("configuration "), code(p.Gate.Hash), g.Text(" loaded "),
				h.Time(h.DateTime(loaded.ISO()), h.Title(loaded.Text()), g.Text(loaded.Ago))),
			g.Text(" "), h.Span(text(p.Gate.Version)),
			g.Text(" "), h.Span(g.Text("as of "), h.Time(h.DateTime(p.At.Format("2006-01-02T15:04:05Z")), g.Text(p.At.Format("15:04:05")+" UTC")))),
		h.Div(h.ID("refresh")))
}
