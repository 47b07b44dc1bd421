package console

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/tallygate/tallygate/internal/explain"
)

// node returns the refusal as a line that opens to its explanation.
func (r *refusal) node(open bool) g.Node {
	what := g.Node(g.Group{code(r.Method), g.Text(" "), text(r.Target)})
	if r.Listener != "" {
		what = g.Group{g.Text("TLS handshake at "), text(r.Listener)}
	}
	return h.Details(class("refusal"), g.If(open, g.Attr("open")),
		h.Summary(pill(badOrWarn(r.Bad), r.Reason), g.Text(" "), h.Span(class("what"), what), g.Text(" "),
			quiet(g.If(r.Times > 1, g.Text(number(r.Times)+" times, last ")), timeAgo(r.Last), ifNonEmpty(r.ClientID, g.Group{g.Text(" · "), text(r.ClientID)}))),
		h.Div(class("body"),
			explanation(r.Explanation),
			definitions(
				definition{"Certificate of", r.certificateOf()},
				definition{"Token of", r.tokenOf()},
				definition{"Request", r.request()},
				definition{"Go on", ifNonEmpty(r.Command, h.Code(class("break command"), text(r.Command)))}),
			ifNonEmpty(r.Documentation, h.P(docsLink(r.Documentation, g.Text("About this reason"))))))
}

// explanation returns what the outcome means, what was compared, and what to do.
func explanation(e *explain.LogLine) g.Node {
	if e == nil {
		return nil
	}
	var compared g.Node
	switch {
	case e.Stage.Compared != "":
		note := func(of string) g.Node {
			return g.If(e.Stage.Compared == "cnf.x5t#S256", g.Group{g.Text(" "), quiet(g.Text(of))})
		}
		compared = h.Dl(class("compare"), h.Dt(g.Text("Compared")), h.Dd(text(e.Stage.Compared)),
			h.Dt(g.Text("Expected")), h.Dd(longCode(e.Stage.Expected), note("the certificate of the connection")),
			h.Dt(g.Text("Came")), h.Dd(longCode(e.Stage.Got), note("the certificate that the token is bound to")))
	case e.Stage.Detail != "" && e.Stage.Detail != e.Outcome:
		compared = h.P(longCode(e.Stage.Detail))
	}
	return g.Group{
		h.P(text(e.Meaning)), compared,
		definitions(
			definition{"At fault", ifNonEmpty(e.Advice.Fault, text(e.Advice.Fault))},
			definition{"Do", ifNonEmpty(e.Advice.Do, text(e.Advice.Do))},
			definition{"Setting", ifNonEmpty(e.Stage.Position, longCode(e.Stage.Position))}),
	}
}

func (r *refusal) certificateOf() g.Node {
	owner := g.Text("no known partner")
	if r.Partner != unknownPartner {
		owner = link(partnerLink(r.Partner), text(r.Partner))
	}
	return g.Group{
		owner, ifNonEmpty(r.Application, g.Group{g.Text(", application "), text(r.Application)}),
		g.Map(r.Certificate, func(line string) g.Node { return h.Span(class("quiet under break"), text(line)) }),
		ifNonEmpty(r.Thumbprint, quietBelow(longCode(r.Thumbprint))),
	}
}

// tokenOf returns the partner, the application and the issuer of the token, or nil if no token names them.
func (r *refusal) tokenOf() g.Node {
	if r.ClientID == "" && r.TokenPartner == "" {
		return nil
	}
	owner := g.Text("no known partner")
	if r.TokenPartner != "" {
		owner = link(partnerLink(r.TokenPartner), text(r.TokenPartner))
	}
	return g.Group{
		owner, ifNonEmpty(r.ClientID, g.Group{g.Text(", application "), text(r.ClientID)}),
		ifNonEmpty(r.Issuer, quietBelow(g.Text("from authorization server "), text(r.Issuer))),
	}
}

func (r *refusal) request() g.Node {
	return g.Group{
		ifNonEmpty(r.API, g.Group{g.Text("API "), text(r.API), g.Text(", ")}), g.Text("from "), text(r.Remote),
		quietBelow(ifNonEmpty(r.RequestID, g.Group{g.Text("id "), code(r.RequestID), g.Text(", ")}), g.Text(r.Last.Text()),
			g.If(r.Times > 1, g.Text(", first "+r.First.Text()))),
	}
}
