package issuer

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
)

// readForm returns the parameters in the body of r, as RFC 6749 section 3.2 and appendix B say: the
// body is a form in which each parameter occurs once at most, and a parameter without a value is
// treated as absent. Parameters in the query are refused. Every error is a refusal and quotes nothing
// of r, because the client may have put a token or secret in the wrong place.
func readForm(r *http.Request) (form, error) {
	if r.URL.RawQuery != "" {
		return nil, refuse(invalidRequest, "the query has parameters")
	}
	types := r.Header["Content-Type"]
	if len(types) != 1 {
		return nil, refuse(invalidRequest, "want exactly one Content-Type header")
	}
	if t, _, err := mime.ParseMediaType(types[0]); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, refuse(invalidRequest, "the content type is not application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(r.Body) // ServeHTTP limits the size of the body
	if err != nil {
		return nil, refuse(invalidRequest, "the body is too large or incomplete")
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

// resource is the only parameter that may be repeated, RFC 8707 section 2.
const resource = "resource"

// A form has the parameters of a request.
type form map[string][]string

// get returns the first value of a parameter, or "" if the parameter is absent.
func (f form) get(name string) string {
	if all := f[name]; len(all) > 0 {
		return all[0]
	}
	return ""
}
