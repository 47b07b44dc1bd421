package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// charts returns the charts, and rows as a table that says the same.
func charts(all []chart, rows []minute) g.Node {
	return g.Group{
		h.Div(class("charts"), g.Map(all, chart.node)),
		g.Iff(len(rows) > 0, func() g.Node {
			return h.Details(h.Summary(g.Text("The charts as a table")),
				grid{class: "numbers", caption: "Requests by minute of the last hour", label: "Requests by minute",
					heads: heads("Minute, UTC", "Granted", "Refused", "Failed"), rows: g.Map(rows, func(m minute) g.Node {
						return h.Tr(rowHead(g.Text(m.At.Clock())), h.Td(g.Text(number(m.Granted))), h.Td(g.Text(number(m.Refused))), h.Td(g.Text(number(m.Failed))))
					})}.node())
		}),
	}
}

func (c chart) node() g.Node {
	return h.Figure(
		h.FigCaption(
			h.Span(h.Strong(text(c.Title)), g.Text(" "+number(c.Total))), g.Text(" "),
			h.Span(class("legend"), g.Map(c.Parts, func(p part) g.Node {
				return h.Span(drawing("", "0 0 12 12", "12", "12", g.El("rect", class(p.Class), h.Width("12"), h.Height("12"))),
					g.Text(p.Class+" "+number(p.Total)))
			}))),
		h.Div(class("plot"),
			h.Span(class("most"), h.Aria("hidden", "true"), g.Text(number(c.Most))),
			drawing("", "0 0 600 100", "", "", g.Attr("preserveAspectRatio", "none"), path("grid", "M0 .5h600M0 50h600M0 99.5h600"),
				g.Map(c.Parts, func(p part) g.Node { return ifNonEmpty(p.Path, path(p.Class, p.Path)) }))),
		h.P(class("axis"), h.Aria("hidden", "true"), h.Span(g.Text("60 min ago")), h.Span(g.Text("45")), h.Span(g.Text("30")), h.Span(g.Text("15")), h.Span(g.Text("now"))))
}

// drawing returns an SVG that screen readers pass over, because a text or a table says the same. Without a
// size it fills its box.
func drawing(classes, box, width, height string, children ...g.Node) g.Node {
	return h.SVG(g.If(classes != "", class(classes)), g.Attr("viewBox", box), ifNonEmpty(width, h.Width(width)), ifNonEmpty(height, h.Height(height)),
		h.Aria("hidden", "true"), g.Attr("focusable", "false"), g.Group(children))
}

func path(classes, d string) g.Node { return g.El("path", class(classes), g.Attr("d", d)) }
