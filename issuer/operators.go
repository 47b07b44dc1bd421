package issuer

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certlog"
)

// An operator may revoke over mutual TLS.
type operator struct {
	name        string
	certificate config.RegisteredCertificate
	anchors     []access.AnchorKey
	permissions []config.Permission
}

func newOperators(settings *config.Issuer, anchors map[config.Name][]access.AnchorKey) []operator {
	var operators []operator
	for _, o := range settings.Operators {
		operators = append(operators, operator{string(o.Name), o.Certificate, anchors[o.Name], o.Permissions})
	}
	return operators
}

// An operatorCall is a request to an endpoint for operators. If the request is refused, the call has the values that
// were known at that time.
type operatorCall struct {
	operator    *operator // nil until the operator is authenticated
	certificate *access.Certificate
	attributes  []slog.Attr // what the log says about the operation
}

// serveOperators serves the endpoint for operators with this name. A client that is not an operator gets the same
// response for every name and method, so that the response does not show which endpoints exist. An overloaded gate
// serves operators too, because a revocation may end the overload, and few clients get past the check of the
// certificate. No other function writes the responses and log lines of operators.
func (i *Issuer) serveOperators(w http.ResponseWriter, r *http.Request, name string) {
	var c operatorCall
	response, err := i.operate(w, r, name, &c)
	attributes := append([]slog.Attr{slog.Bool("granted", err == nil), slog.String("remote", sourceOf(r).String())}, c.attributes...)
	if c.certificate != nil {
		attributes = append(attributes, slog.String("thumbprint", c.certificate.ThumbprintText()))
	}
	if err != nil {
		f := faultOf(err)
		attributes = append(attributes, slog.String("error_code", faults[f].code), slog.String("error", access.Truncate(err.Error())))
		var denial *access.Denial
		if errors.As(err, &denial) {
			attributes = append(attributes, slog.String("reason", denial.Reason.String()))
		}
		if f == invalidClient && c.certificate != nil {
			attributes = append(attributes, certlog.Names(c.certificate.Leaf)...)
		}
		i.log.LogAttrs(r.Context(), slog.LevelWarn, "operator request", attributes...)
		writeFault(w, f)
		return
	}
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "operator request", attributes...)
	noStore(w)
	writeJSON(w, http.StatusOK, response)
}

// operate authenticates the operator and executes the operation of the endpoint with this name. Every error is a
// refusal or a mistake.
func (i *Issuer) operate(w http.ResponseWriter, r *http.Request, name string, c *operatorCall) (response any, err error) {
	if !i.addresses.allow(sourceOf(r)) {
		return nil, refuse(tooManyRequests, "the source address exceeds its request rate")
	}
	if c.certificate, err = i.certificate(r); err == nil {
		c.operator, err = i.authenticateOperator(c.certificate)
	}
	if err != nil {
		return nil, authenticationRefusal(err)
	}
	c.attributes = append(c.attributes, slog.String("actor", OperatorActor(c.operator.name)))
	if err := i.current(); err != nil { // the operator's own certificate may have been revoked by another process
		return nil, &refusal{temporarilyUnavailable, err}
	}
	switch {
	case name != "revocations":
		return nil, refuse(notFound, "an operator requests an unknown endpoint")
	case r.Method == http.MethodPost:
		return i.serveOperatorRevoke(w, r, c)
	case r.Method == http.MethodGet:
		if err := c.operator.may(config.PermissionRead); err != nil {
			return nil, err
		}
		q, err := parseRevocationQuery(r.URL.RawQuery)
		if err != nil {
			return nil, err
		}
		return i.Revocations(r.Context(), q)
	}
	w.Header().Set("Allow", "GET, POST")
	return nil, refuse(methodNotAllowed, "an operator uses an unknown method")
}

// authenticateOperator returns the operator to whom certificate belongs. The certificate must chain to an anchor of
// the operator and have the operator's registered name, or a registered thumbprint. If it belongs to two operators, it
// is refused, because the audit record could name the wrong operator. The error is an *access.Denial.
func (i *Issuer) authenticateOperator(certificate *access.Certificate) (*operator, error) {
	if certificate == nil {
		return nil, &access.Denial{Reason: access.NoCertificate}
	}
	var found []*operator
	chains := false
	for n := range i.operators {
		o := &i.operators[n]
		if !certificate.ChainsTo(o.anchors) {
			continue
		}
		chains = true
		if o.certificate.MatchesName(certificate.Leaf) || o.certificate.HasThumbprint(certificate.Thumbprint) {
			found = append(found, o)
		}
	}
	switch {
	case i.revocations.set.Certificate(certificate.Thumbprint):
		return nil, &access.Denial{Reason: access.RevokedCertificate}
	case !chains:
		return nil, &access.Denial{Reason: access.UntrustedCertificate, Err: errors.New("it chains to no anchor of an operator")}
	case certificate.ServerOnly:
		return nil, &access.Denial{Reason: access.WrongUsage, Err: errors.New("its extended key usage allows server authentication alone")}
	case len(found) == 0:
		return nil, &access.Denial{Reason: access.CertificateNotRegistered, Err: errors.New("no operator has its name or thumbprint")}
	case len(found) > 1:
		return nil, &access.Denial{Reason: access.CertificateNotRegistered, Err: fmt.Errorf("it belongs to the operators %s and %s", found[0].name, found[1].name)}
	}
	return found[0], nil
}

func (o *operator) may(permission config.Permission) error {
	if !slices.Contains(o.permissions, permission) {
		return refuse(forbidden, "the operator lacks the permission "+string(permission))
	}
	return nil
}

// serveOperatorRevoke revokes what the body of r names. The content type is checked, because a browser that has the
// operator's certificate would send a form for any site that asks it to.
func (i *Issuer) serveOperatorRevoke(w http.ResponseWriter, r *http.Request, c *operatorCall) (RevocationResponse, error) {
	var request RevocationRequest
	if err := c.operator.may(config.PermissionRevoke); err != nil {
		return RevocationResponse{}, err
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" || len(r.Header["Content-Type"]) != 1 || r.URL.RawQuery != "" {
		return RevocationResponse{}, refuse(malformedOperation, "want a body of type application/json and no query")
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOperatorBody))
	if err == nil {
		err = json.Unmarshal(content, &request, json.RejectUnknownMembers(true))
	}
	if err != nil { // the log does not have err, which may quote a token
		return RevocationResponse{}, refuse(malformedOperation, "the body is too large, incomplete or not the expected JSON")
	}
	request.Actor = OperatorActor(c.operator.name)
	c.attributes = request.logAttributes()
	done, err := i.revokeRequested(request)
	if err == nil {
		c.attributes = append(c.attributes, slog.String("done", done))
	}
	return RevocationResponse{Done: done, Streams: i.openStreams()}, err
}
