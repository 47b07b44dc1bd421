package pemfile

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

var (
	errUTF8Mark = errors.New("the file begins with a byte order mark; save it as UTF-8 without one")
	errUTF16    = errors.New("the file is UTF-16 text; save it as UTF-8")
)

// checkMark returns an error for text that begins with a byte order mark, as some editors and shells of
// Windows write it. Because of the mark, the first BEGIN line does not start with "-----", so encoding/pem
// would skip the first block.
func checkMark(name string, text []byte) error {
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf-----")):
		return missing(name, errUTF8Mark)
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		return missing(name, errUTF16)
	}
	return nil
}

// missingBlock returns err, which says what a text without the wanted block lacks. If text has no PEM
// block at all and is in another known form, the error names the form and the command that converts it.
func missingBlock(name string, text []byte, err error) error {
	if form := formOf(text); form != "" && !bytes.Contains(text, begin) {
		err = fmt.Errorf("%w: %s", err, form)
	}
	return missing(name, err)
}

// formOf describes text in a form that is often taken for PEM, or returns "".
func formOf(text []byte) string {
	switch {
	case bytes.HasPrefix(text, []byte{0xfe, 0xed, 0xfe, 0xed}):
		return "it is a Java keystore; convert it to PKCS #12 by keytool -importkeystore, and then by openssl pkcs12"
	case bytes.HasPrefix(bytes.TrimSpace(text), []byte("MII")): // base64 of a SEQUENCE of 256 to 65,535 bytes
		return "it is base64 without the lines -----BEGIN and -----END"
	case !bytes.HasPrefix(text, []byte{0x30}): // every form below is a SEQUENCE
		return ""
	}
	if _, err := x509.ParseCertificate(text); err == nil {
		return "it is a certificate in DER form; convert it by openssl x509 -inform DER -in OLD -out NEW"
	}
	if isDERKey(text) {
		return "it is a private key in DER form; convert it by openssl pkey -inform DER -in OLD -out NEW"
	}
	return container(text)
}

func isDERKey(text []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(text); err == nil {
		return true
	}
	if _, err := x509.ParseECPrivateKey(text); err == nil {
		return true
	}
	_, err := x509.ParsePKCS1PrivateKey(text)
	return err == nil
}

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2} // RFC 2315
	oidPKCS5      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5}    // RFC 8018
	oidPKCS12     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12}   // RFC 7292
)

// container names a SEQUENCE that holds certificates or keys in another form, or returns "".
func container(der []byte) string {
	var pfx struct { // RFC 7292 section 4
		Version int
		Content struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue
		}
		MAC asn1.RawValue `asn1:"optional"`
	}
	var signed struct { // RFC 2315 section 7
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	var encrypted struct { // RFC 5958 section 3
		Algorithm struct {
			Type       asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Data []byte
	}
	parses := func(v any) bool { _, err := asn1.Unmarshal(der, v); return err == nil }
	switch {
	case parses(&pfx) && pfx.Version == 3:
		return "it is a PKCS #12 file; take the certificates out by openssl pkcs12 -in OLD -nokeys -out NEW, and the key by openssl pkcs12 -in OLD -nocerts -noenc -out NEW"
	case parses(&signed) && signed.Type.Equal(oidSignedData):
		return "it is a PKCS #7 file; convert it by openssl pkcs7 -inform DER -print_certs -in OLD -out NEW"
	case parses(&encrypted) && (under(encrypted.Algorithm.Type, oidPKCS5) || under(encrypted.Algorithm.Type, oidPKCS12)):
		return "it is an encrypted private key in DER form; convert it by openssl pkcs8 -inform DER -in OLD -out NEW"
	}
	return ""
}

// under reports whether id begins with all of parent.
func under(id, parent asn1.ObjectIdentifier) bool {
	return len(id) > len(parent) && id[:len(parent)].Equal(parent)
}
