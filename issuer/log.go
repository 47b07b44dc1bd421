package issuer

import (
	"errors"
	"log/slog"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certlog"
	"github.com/tallygate/tallygate/issuer/rules"
)

// maxLoggedClientID is the longest unregistered client_id that is logged. A client may send a token
// as client_id by mistake; the limit is too short for a token, because an opaque token has 43
// characters.
const maxLoggedClientID = 40

// logAttributes returns the log attributes of c and of its outcome err. If the certificate was
// refused, the attributes include the names in it, so that an operator can see which name to
// register.
func (c call) logAttributes(err error) []slog.Attr {
	a := []slog.Attr{slog.Bool("granted", err == nil), slog.String("remote", c.address.String())}
	if id := c.parameters.get("client_id"); c.client != nil || len(id) <= maxLoggedClientID {
		a = append(a, slog.String("client_id", id))
	}
	if c.client != nil && c.client.partner != "" {
		a = append(a, slog.String("partner", c.client.partner))
	}
	if c.certificate != nil {
		a = append(a, slog.String("thumbprint", c.certificate.Thumbprint.String()))
	}
	if err == nil {
		return a
	}
	f := faultOf(err)
	a = append(a, slog.String("error_code", faults[f].code), slog.String("error", access.Truncate(err.Error())))
	var denial *access.Denial
	if errors.As(err, &denial) {
		a = append(a, slog.String("reason", denial.Reason.String()))
	}
	var ruleInput *rules.Refusal
	if errors.As(err, &ruleInput) {
		a = append(a, slog.String("rule_level", ruleInput.Level.String()), slog.String("rule", ruleInput.Rule))
	}
	if f == invalidClient && c.certificate != nil {
		a = append(a, certlog.Names(c.certificate.Leaf)...)
	}
	return a
}
