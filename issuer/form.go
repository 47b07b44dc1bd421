package issuer

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
)

// readForm returns the parameters in the body of r, by RFC 6749 section 3.2 and
// appendix B: a form, each parameter at most once, one without a value as good as
// absent, none in the query. Its errors are refusals that quote nothing of r, which
// may hold a token or a secret in the wrong place.
func readForm(r *http.Request) (form, error) {
	if r.URL.RawQuery != "" {
		return nil, refuse(invalidRequest, "parameters in the query")
	}
	types := r.Header["Content-Type"]
	if len(types) != 1 {
		return nil, refuse(invalidRequest, "not exactly one content type")
	}
	if t, _, err := mime.ParseMediaType(types[0]); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, refuse(invalidRequest, "the content type is not that of a form")
	}
	body, err := io.ReadAll(r.Body) // limited by ServeHTTP
	if err != nil {
		return nil, refuse(invalidRequest, "the body is too large or broke off")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, refuse(invalidRequest, "the body is not a well-formed form")
	}
	parameters := make(form, len(values))
	for name, all := range values {
		if len(all) > 1 && name != resource {
			return nil, refuse(invalidRequest, "a parameter is repeated")
		}
		all = slices.DeleteFunc(all, func(v string) bool { return v == "" })
		if len(all) > 0 {
			parameters[name] = all
		}
	}
	return parameters, nil
}

// resource is the one parameter that may be repeated, RFC 8707 section 2.
const resource = "resource"

// A form holds the parameters of a request.
type form map[string][]string

// get returns the value of a parameter that occurs once at most, "" when it is absent.
func (f form) get(name string) string {
	if all := f[name]; len(all) > 0 {
		return all[0]
	}
	return ""
}
