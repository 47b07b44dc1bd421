package mtls

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
)

var (
	errXFCC       = errors.New("X-Forwarded-Client-Cert is not a list of elements of key=value pairs with known keys")
	errXFCCTwice  = errors.New("an element of X-Forwarded-Client-Cert has a key twice")
	errXFCCNoCert = errors.New("the last element of X-Forwarded-Client-Cert has no valid Cert")
	errXFCCOrder  = errors.New("an element of X-Forwarded-Client-Cert has a key after URI or DNS, which may be a forgery inside a name of the client certificate")
	errXFCCNames  = errors.New("X-Forwarded-Client-Cert has several elements and one of them has URI or DNS, so an element may be a forgery inside a name of a client certificate")
)

// xfccKeys has the keys of an element of Envoy's X-Forwarded-Client-Cert. The value is true for a
// key that may be repeated.
var xfccKeys = map[string]bool{
	"By": true, "Hash": false, "Cert": false, "Chain": false, "Subject": false, "URI": true, "DNS": true,
}

// parseXFCC parses the last element of X-Forwarded-Client-Cert: the client certificate in Cert and
// the intermediates in Chain. Each proxy appends an element, so the last element is from the trusted
// sender. Commas separate elements, semicolons separate keys, and values may be quoted.
//
// Envoy copies URI and DNS from the client certificate without escaping, and the client's authority
// may choose these names. A comma in such a name would begin another element, and this forged element
// would be the last. So an element with names is refused if there are several elements. A semicolon
// in such a name would begin another key, such as Cert. Envoy writes names last, so an element with
// any key after the names is refused.
func parseXFCC(text string, _ []string) ([]*x509.Certificate, error) {
	var element map[string]string
	elements, named := 0, false
	for more := true; more; {
		var err error
		if element, text, more, err = cutElement(text); err != nil {
			return nil, err
		}
		_, uri := element["URI"]
		_, dns := element["DNS"]
		elements, named = elements+1, named || uri || dns
	}
	if named && elements > 1 {
		return nil, errXFCCNames
	}
	leaf, err := xfccPEM(element["Cert"])
	if err != nil || len(leaf) != 1 {
		return nil, errXFCCNoCert
	}
	if _, ok := element["Chain"]; !ok {
		return leaf, nil
	}
	chain, err := xfccPEM(element["Chain"])
	if err != nil {
		return nil, err
	}
	return append(leaf, chain...), nil
}

// xfccPEM parses a value of Cert or Chain, which is percent-encoded PEM.
func xfccPEM(value string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(value)
	if err != nil || text == "" {
		return nil, errPEM
	}
	return parseBlocks(text)
}

// cutElement returns the first element of text, the rest of text, and whether the rest begins another
// element.
func cutElement(text string) (element map[string]string, rest string, more bool, err error) {
	element = make(map[string]string, len(xfccKeys))
	for named := false; ; {
		key, after, found := strings.Cut(text, "=")
		again, known := xfccKeys[key]
		if !found || !known {
			return nil, "", false, errXFCC
		}
		if _, ok := element[key]; ok && !again {
			return nil, "", false, errXFCCTwice
		}
		name := key == "URI" || key == "DNS"
		if named && !name {
			return nil, "", false, errXFCCOrder
		}
		named = name
		value, after, ok := cutValue(after)
		if !ok {
			return nil, "", false, errXFCC
		}
		element[key] = value
		if after == "" {
			return element, "", false, nil
		}
		text = after[1:]
		if after[0] == ',' {
			return element, text, true, nil
		}
	}
}

// cutValue returns the value at the beginning of text, and the rest of text. The rest is empty or
// begins with the comma or semicolon after the value. In a quoted value, a backslash escapes the next
// character. An unquoted value contains neither quotation marks nor backslashes.
func cutValue(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, `,;"\`)
		if end < 0 {
			return text, "", true
		}
		return text[:end], text[end:], text[end] == ',' || text[end] == ';'
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			rest = text[i+1:]
			return text[1:i], rest, rest == "" || rest[0] == ',' || rest[0] == ';'
		}
	}
	return "", "", false
}
