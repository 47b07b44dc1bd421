package console

import (
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

func (p partnerPage) html() g.Node {
	return p.layout(
		p.lead(),
		section("refusals", "Last refusals", p.refusals()),
		g.Iff(len(p.Elsewhere) > 0, func() g.Node {
			return section("elsewhere", "Tokens of this partner that others showed", refusals(p.Elsewhere))
		}),
		section("hour", "The last hour, by minute", charts(p.Charts, p.Minutes)),
		g.Iff(p.Known, p.settings),
		g.Iff(!p.Known && len(p.Seen) > 0, func() g.Node {
			return section("seen", "Certificates of granted requests", clientCertificates(p.Seen))
		}))
}

// lead returns what the configuration says about the partner itself.
func (p partnerPage) lead() g.Node {
	switch {
	case !p.Known && p.Name == unknownPartner:
		return h.P(class("lead"), g.Text("Requests without a valid token whose certificate belongs to no known partner."))
	case !p.Known:
		return h.P(class("lead"), pill("warn", "unknown"), g.Text(" The configuration has no partner of this name."))
	}
	return h.P(class("lead"),
		g.If(p.Disabled, g.Group{pill("bad", "disabled"), g.Text(" The gate refuses every request of this partner. ")}),
		ifNonEmpty(p.Position, code(p.Position)),
		g.If(len(p.Servers) > 0, g.Group{g.Text(" · tokens may come from "), text(strings.Join(p.Servers, ", "))}))
}

func (p partnerPage) refusals() g.Node {
	if len(p.Refusals) == 0 {
		return h.P(class("calm"), pill("fine", "fine"), g.Text(" Nothing was refused since the gate started."))
	}
	return refusals(p.Refusals)
}

// refusals returns the refusals, the first with its explanation open.
func refusals(all []refusal) g.Node {
	var nodes g.Group
	for i := range all {
		nodes = append(nodes, all[i].node(i == 0))
	}
	return nodes
}

// settings returns what the partner is registered with and may call.
func (p partnerPage) settings() g.Node {
	seen := h.P(class("quiet"), g.Text("No request was granted since the gate started."))
	if len(p.Seen) > 0 {
		seen = clientCertificates(p.Seen)
	}
	anchors := h.P(class("quiet"), g.Text("The partner has no anchor."))
	if len(p.Anchors) > 0 {
		anchors = clientCertificates(p.Anchors)
	}
	routes := h.P(class("quiet"), g.Text("Nothing."))
	if len(p.Routes) > 0 {
		routes = permissions(p.Routes)
	}
	return g.Group{
		section("applications", "Applications", grid{
			caption: "Applications of the partner", label: "Applications",
			heads: heads("Client id", "Registered certificate", "Authentication", "May call", "Scopes of our issuer", "Setting"), rows: g.Map(p.Applications, application.node),
		}.node()),
		h.Div(class("columns two"),
			section("seen", "Certificates of granted requests", seen),
			section("anchors", "Anchors", ifNonEmpty(p.NoAnchors, h.P(pill("warn", "unread"), g.Text(" "), text(p.NoAnchors))), anchors)),
		section("may", "What it may call", routes,
			g.If(p.MoreRoutes > 0, h.P(class("quiet"), g.Text(number(p.MoreRoutes)+" more are in "), link("/access.csv", g.Text("the CSV of all permissions")), g.Text(".")))),
	}
}

func (a application) node() g.Node {
	return h.Tr(rowHead(text(a.ClientID)), h.Td(class("break"), text(a.Registered)), h.Td(text(a.Authentication), ifNonEmpty(a.RateLimit, quietBelow(text(a.RateLimit)))),
		h.Td(tags(a.APIs, nil)), h.Td(tags(a.Scopes, quiet(g.Text("none")))), h.Td(code(a.Position)))
}

func clientCertificates(all []clientCertificate) g.Node {
	return h.Ul(class("certificates"), g.Map(all, func(c clientCertificate) g.Node {
		return h.Li(h.Div(h.Strong(class("break"), text(c.Subject)), g.Text(" "), endPill(c.State)), definitions(
			definition{"Ends", endDay(c.Ends, "")},
			definition{"Application", ifNonEmpty(c.ClientID, text(c.ClientID))},
			definition{"Seen", g.If(!c.Last.IsZero(), timeAgo(c.Last))},
			definition{"Issuer", h.Span(class("break"), text(c.Issuer))},
			definition{"Thumbprint", longCode(c.Thumbprint)}))
	}))
}

func permissions(all []permission) g.Node {
	return grid{
		caption: "Applications and the routes that they may call", label: "Permissions",
		heads: heads("Application", "Method", "Path", "Host", "API", "Token needs", "Setting"),
		rows: g.Map(all, func(p permission) g.Node {
			return h.Tr(rowHead(text(p.ClientID), disabledPill(p.Disabled)), h.Td(code(p.Method)), h.Td(code(p.Path)), h.Td(withSpaces(p.Hosts)), h.Td(text(p.API)), h.Td(p.needs()), h.Td(code(p.Position)))
		}),
	}.node()
}

func (p partnersPage) html() g.Node {
	list := h.P(class("quiet"), g.Text("No partner."))
	if len(p.Rows) > 0 {
		list = grid{
			caption: "Partners", label: "Partners",
			heads: append(append(heads("Partner", "Applications", "APIs"), numberHead("Granted, hour"), numberHead("Refused"), numberHead("Failed")), heads("Certificate ends", "Anchor ends")...),
			rows:  g.Map(p.Rows, partnerRow.node),
		}.node()
	}
	return p.layout(
		ifNonEmpty(p.Query, h.P(class("lead"), g.Text(plural(p.Pager.Total, "partner")+" with “"), text(p.Query), g.Text("” in name, client id or registered certificate. "), link("/partners", g.Text("Show all")))),
		g.Iff(len(p.Refusals) > 0, func() g.Node {
			return section("found", "Refusals with “"+p.Query+"” in their log line", g.Map(p.Refusals, func(r refusal) g.Node { return r.node(false) }))
		}),
		section("list", "Partners, most refused first", p.Pager.node(), list, p.Pager.node(),
			h.P(g.Text("Requests of "), link(partnerLink(unknownPartner), g.Text("no known partner")), g.Text(" have a page too."))))
}

func (r partnerRow) node() g.Node {
	end := func(m moment, state, none string) g.Node {
		if m.IsZero() {
			return h.Td(quiet(g.Text(none)))
		}
		return h.Td(endDay(m, state))
	}
	return h.Tr(rowHead(link(r.Link, text(r.Name)), disabledPill(r.Disabled)),
		h.Td(tags(r.Applications, nil), g.If(r.More > 0, quiet(g.Textf("and %d more", r.More)))), h.Td(tags(r.APIs, nil)),
		numberCell(r.Activity.Granted), numberCell(r.Activity.Refused), numberCell(r.Activity.Failed),
		end(r.CertEnd, r.CertState, "not seen"), end(r.AnchorEnd, r.AnchorState, "no anchor"))
}
