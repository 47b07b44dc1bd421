package mtls

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
)

var (
	errXFCC       = errors.New("X-Forwarded-Client-Cert is not elements of keys and values")
	errXFCCTwice  = errors.New("X-Forwarded-Client-Cert has an element with a key twice")
	errXFCCNoCert = errors.New("the last element of X-Forwarded-Client-Cert has no Cert")
	errXFCCOrder  = errors.New("X-Forwarded-Client-Cert has another key after names of a client's, which may have been made to look like one")
	errXFCCNames  = errors.New("X-Forwarded-Client-Cert has several elements, and one with names of a client's, which may be made to look like another element")
)

// What an element of Envoy's X-Forwarded-Client-Cert may say, and whether more than once.
var xfccKeys = map[string]bool{
	"By": true, "Hash": false, "Cert": false, "Chain": false, "Subject": false, "URI": true, "DNS": true,
}

// parseXFCC reads Cert, and the intermediates in Chain, of the last element: each proxy on
// the way appends one, so that it is the sender's own. Elements are divided by commas,
// their keys by semicolons; a value may be quoted.
//
// Envoy writes URI and DNS, which a client's own authority may have chosen, as they stand
// in the certificate. With a comma they would begin another element, and that would be the
// last. So none may have them where there are several. With a semicolon they would begin
// another key, the Cert above all that an Envoy does not write of its own. So nothing may
// come after them: Envoy writes them last.
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

// xfccPEM reads a value of Cert or Chain.
func xfccPEM(value string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(value)
	if err != nil || text == "" {
		return nil, errPEM
	}
	return parseBlocks(text)
}

// cutElement returns the first element of text, what comes after it, and whether that is
// another.
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

// cutValue returns the value that text begins with, and what comes after it: nothing, or
// the comma or semicolon that ends it and more. In quotation marks, a backslash takes the
// character after it as it is; without, there is neither.
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
