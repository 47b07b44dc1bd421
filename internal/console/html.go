package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/tallygate/tallygate/internal/explain"
)

// The functions in this file make parts of pages. Text, text and attributes of the HTML library escape their
// values. No value that a partner chose is a URL: every link begins with a constant.

// text returns s as text, in which characters are visible that are not printable or change the direction of
// text.
func text(s string) g.Node { return g.Text(explain.Printable(s)) }

// attr returns an attribute with s as its value, made visible like the text of text.
func attr(name, s string) g.Node { return g.Attr(name, explain.Printable(s)) }

func class(names string) g.Node { return h.Class(names) }

func code(s string) g.Node { return h.Code(text(s)) }

// longCode returns code that may break anywhere, such as a thumbprint.
func longCode(s string) g.Node { return h.Code(class("break"), text(s)) }

// quiet returns text that is less important than the text beside it.
func quiet(children ...g.Node) g.Node { return h.Span(class("quiet"), g.Group(children)) }

// quietBelow returns quiet text on a line of its own below other text.
func quietBelow(children ...g.Node) g.Node { return h.Span(class("quiet under"), g.Group(children)) }

// pill returns a short word on a coloured ground. kind is fine, warn or bad.
func pill(kind, word string) g.Node { return h.Span(class("pill "+kind), text(word)) }

// badOrWarn returns the class bad or the class warn.
func badOrWarn(bad bool) string {
	if bad {
		return "bad"
	}
	return "warn"
}

// disabledPill returns a mark for a disabled partner.
func disabledPill(disabled bool) g.Node {
	return g.If(disabled, g.Group{g.Text(" "), pill("bad", "disabled")})
}

func link(url string, children ...g.Node) g.Node { return h.A(h.Href(url), g.Group(children)) }

// docsLink returns a link to the documentation.
func docsLink(url string, children ...g.Node) g.Node {
	return h.A(h.Href(url), h.Rel("noreferrer"), g.Group(children))
}

// linked returns name, as a link if url is not empty.
func linked(url, name string) g.Node {
	if url == "" {
		return text(name)
	}
	return link(url, text(name))
}

// tags returns each name in a box, or otherwise if there is no name.
func tags(names []string, otherwise g.Node) g.Node {
	if len(names) == 0 {
		return otherwise
	}
	return g.Map(names, func(name string) g.Node { return g.Group{h.Span(class("tag"), text(name)), g.Text(" ")} })
}

// withSpaces returns the names with spaces between them.
func withSpaces(names []string) g.Node {
	return g.Map(names, func(name string) g.Node { return g.Group{text(name), g.Text(" ")} })
}

// section returns a section with a heading. id is the id of the heading.
func section(id, heading string, children ...g.Node) g.Node {
	return h.Section(h.Aria("labelledby", id), h.H2(h.ID(id), text(heading)), g.Group(children))
}

// definitions returns a list of terms, each with its description. A nil description leaves its term out.
func definitions(pairs ...definition) g.Node {
	return h.Dl(g.Map(pairs, func(d definition) g.Node {
		if d.what == nil {
			return nil
		}
		return g.Group{h.Dt(g.Text(d.term)), h.Dd(d.what)}
	}))
}

type definition struct {
	term string
	what g.Node
}

// ifNonEmpty returns node, or nil if s is empty.
func ifNonEmpty(s string, node g.Node) g.Node { return g.If(s != "", node) }

// A grid is a table of a page.
type grid struct {
	class   string // "" for none
	caption string // for screen readers
	label   string // the label of the box in which the table scrolls, or "" for a table that does not scroll
	heads   []g.Node
	rows    g.Node
}

func (t grid) node() g.Node {
	made := h.Table(g.If(t.class != "", class(t.class)), h.Caption(class("hidden"), text(t.caption)),
		h.THead(h.Tr(g.Group(t.heads))), h.TBody(t.rows))
	if t.label == "" {
		return made
	}
	return h.Div(class("scroll"), h.TabIndex("0"), h.Role("group"), h.Aria("label", t.label), made)
}

// heads returns the headings of columns.
func heads(names ...string) (all []g.Node) {
	for _, name := range names {
		all = append(all, h.Th(h.Scope("col"), text(name)))
	}
	return all
}

// numberHead returns the heading of a column of numbers.
func numberHead(name string) g.Node { return h.Th(h.Scope("col"), class("n"), text(name)) }

func numberCell(n int) g.Node { return h.Td(class("n"), g.Text(number(n))) }

func rowHead(children ...g.Node) g.Node { return h.Th(h.Scope("row"), g.Group(children)) }

// timeAgo returns the time from m to now in words, or never for the zero time.
func timeAgo(m moment) g.Node {
	if m.IsZero() {
		return g.Text("never")
	}
	return h.Time(h.DateTime(m.ISO()), h.Title(m.Text()), g.Text(m.Ago))
}

// endDay returns the day at which a certificate ends, and a mark if state is expired or soon.
func endDay(m moment, state string) g.Node {
	return g.Group{h.Time(h.DateTime(m.ISO()), g.Text(m.Day())), g.Text(" "), quiet(g.Text(m.Ago)), g.Text(" "), endPill(state)}
}

// endPill returns a mark for a certificate whose state is expired or soon.
func endPill(state string) g.Node {
	switch state {
	case "expired":
		return pill("bad", "expired")
	case "soon":
		return pill("warn", "soon")
	}
	return nil
}

// node returns links to the previous and the next part of a list that one page does not hold.
func (p pager) node() g.Node {
	if p.Previous == "" && p.Next == "" {
		return nil
	}
	return h.Nav(class("pager"), h.Aria("label", "Pages of the list"),
		h.Span(g.Textf("%s–%s of %s", number(p.From), number(p.To), number(p.Total))),
		ifNonEmpty(p.Previous, g.Group{g.Text(" "), h.A(h.Href(p.Previous), h.Rel("prev"), g.Text("Previous"))}),
		ifNonEmpty(p.Next, g.Group{g.Text(" "), h.A(h.Href(p.Next), h.Rel("next"), g.Text("Next"))}))
}
