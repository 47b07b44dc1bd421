package certname

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/testpki"
)

// leastPairs is the minimum number of pairs in TestDNEquality: the table must not shrink
// unnoticed.
const leastPairs = 60

// Each line compares two DNs: text with text, and in both directions text with DER.
func TestDNEquality(t *testing.T) {
	pairs := make(map[[2]string]bool)
	try := func(a, b string, want bool) {
		t.Helper()
		if _, again := pairs[[2]string{a, b}]; again {
			t.Errorf("the pair %s, %s occurs twice", a, b)
		}
		pairs[[2]string{a, b}] = want
		pair(t, a, b, want)
	}
	equal := func(a, b string) { t.Helper(); try(a, b, true) }
	unequal := func(a, b string) { t.Helper(); try(a, b, false) }
	defer func() {
		if len(pairs) < leastPairs {
			t.Errorf("got %d pairs, want at least %d", len(pairs), leastPairs)
		}
	}()

	// Types, T-DN-04.
	equal(`CN=Acme`, `cn=Acme`)
	equal(`CN=Acme`, `2.5.4.3=Acme`)
	equal(`CN=Acme`, `OID.2.5.4.3=Acme`)
	equal(`CN=Acme`, `oid.2.5.4.3=Acme`)
	equal(`EMAILADDRESS=x@a.test`, `1.2.840.113549.1.9.1=x@a.test`)
	equal(`E=x@a.test`, `emailAddress=x@a.test`)
	equal(`DC=test,UID=7`, `0.9.2342.19200300.100.1.25=test,0.9.2342.19200300.100.1.1=7`)
	equal(`GIVENNAME=Ada,SN=L`, `gn=Ada,2.5.4.4=L`)
	equal(`SERIALNUMBER=1,STREET=s,L=l,ST=st,O=o,OU=ou,C=DE`, `2.5.4.5=1,2.5.4.9=s,2.5.4.7=l,2.5.4.8=st,2.5.4.10=o,2.5.4.11=ou,2.5.4.6=DE`)
	unequal(`CN=Acme`, `O=Acme`)
	unequal(`SN=1`, `serialNumber=1`)
	unequal(`ST=Berlin`, `STREET=Berlin`)

	// Values: exact, whole, T-DN-02, T-DN-04.
	unequal(`CN=Acme`, `CN=ACME`)
	unequal(`CN=acme`, `CN=acme.evil`)
	unequal(`CN=acme`, `CN=xacme`)
	unequal(`CN=acme`, `O=CN\=acme`)
	unequal(`CN=acme`, `CN=acme\,CN`)
	unequal(`CN=acme`, `CN=acme\00`)
	unequal(`CN=acme`, `CN=acme\ `)
	unequal(`CN=acme`, `CN=\ acme`)
	unequal(`CN=a b`, `CN=a  b`)
	unequal(`CN=a.me`, `CN=acme`) // no regular expression
	unequal(`CN=*`, `CN=acme`)
	unequal(`CN=Müller`, `CN=Mu\cc\88ller`) // composed and not: two names
	unequal(`CN=acme`, `CN=аcme`)           // the second begins with a Cyrillic letter

	// Escapes, T-DN-01.
	equal(`CN=Smith\, John`, `CN=Smith\2C John`)
	equal(`CN=Smith\, John`, `CN=Smith\2c\20John`)
	equal(`CN=a\+b`, `CN=a\2Bb`)
	equal(`CN=a\"b\"`, `CN=a\22b\22`)
	equal(`CN=a\\b`, `CN=a\5Cb`)
	equal(`CN=\#1`, `CN=\231`)
	equal(`CN=a#1`, `CN=a\#1`)
	equal(`CN=a\;b\<c\>d`, `CN=a\3Bb\3Cc\3Ed`)
	equal(`CN=a=b`, `CN=a\=b`)
	equal(`CN=\ a\ `, `CN=\20a\20`)
	equal(`CN=a b`, `CN=a\ b`)
	equal(`CN=Lu\C4\8Di\C4\87`, `CN=Lučić`)
	equal(`CN=a\0Ab`, "CN=a\nb")
	unequal(`CN=a\\`, `CN=a`)
	equal(`CN=a\,b\+c\"d\\e\<f\>g\;h`, `CN=a\2cb\2bc\22d\5ce\3cf\3eg\3bh`)
	equal(`CN=\#a\ `, `CN=\23a\20`)
	unequal(`CN=a\2Cb`, `CN=a\5C2Cb`) // an escape, and the text of one
	unequal(`CN=Smith\, John`, `CN=Smith\,John`)

	// Imitations, T-DN-03.
	unequal(`CN=acme,O=Acme`, `CN=acme\,O=Acme`)
	unequal(`CN=acme, O=Acme`, `CN=acme\, O=Acme`)
	unequal(`CN=acme+CN=admin`, `CN=acme\+CN=admin`)
	unequal(`CN=acme,CN=admin`, `CN=acme+CN=admin`)
	unequal(`CN=acme\00,O=Acme`, `CN=acme,O=Acme`)
	unequal(`CN=acme,O=Acme`, `CN=acme\0AO=Acme`)
	unequal(`CN=a,O=Acme`, `CN=a\,O\=Acme`)

	// RDNs: all of them, in order.
	equal(`CN=a,O=b,C=DE`, `CN=a, O=b , C=DE`)
	equal(`CN=a,O=b`, ` CN = a , O = b `)
	unequal(`CN=a,O=b`, `O=b,CN=a`)
	unequal(`CN=a,O=b`, `CN=a`)
	unequal(`CN=a,O=b`, `O=b`)
	unequal(`CN=a,O=b`, `CN=a,O=b,C=DE`)
	unequal(`CN=a`, `CN=a,CN=a`)
	unequal(`OU=a,OU=b`, `OU=b,OU=a`)

	// Attributes of an RDN: a set.
	equal(`CN=a+O=b`, `O=b+CN=a`)
	equal(`OU=a+OU=b`, `OU=b + OU=a`)
	equal(`CN=x,CN=a+O=b+L=c`, `CN=x,L=c+CN=a+O=b`)
	unequal(`CN=a+O=b`, `CN=a,O=b`)
	unequal(`CN=a+O=b`, `CN=a`)
	unequal(`OU=a+OU=b`, `OU=a+OU=c`)
	unequal(`OU=a+OU=b`, `OU=a`)

	// DER in hexadecimal, T-DN-09.
	equal(`CN=#0c0441636d65`, `CN=Acme`)                       // UTF8String
	equal(`CN=#130441636D65`, `CN=#0c0441636d65`)              // PrintableString and UTF8String
	equal(`CN=#160441636d65`, `CN=Acme`)                       // IA5String
	equal(`CN=#140441636d65`, `CN=Acme`)                       // T61String, ASCII
	equal(`CN=#1e0800410063006d0065`, `CN=Acme`)               // BMPString
	equal(`CN=#1e02010d`, `CN=č`)                              // BMPString
	equal(`serialNumber=#12023432`, `serialNumber=#1a023432 `) // NumericString and VisibleString
	equal(`2.5.4.97=#130c56415444452d313233343536`, `organizationIdentifier=VATDE-123456`)
	equal(`1.3.6.1.4.1.311.60.2.1.3=#13024445`, `jurisdictionCountry=DE`)
	equal(`jurisdictionC=DE,jurisdictionST=B,jurisdictionL=b`, `jurisdictionCountry=DE,jurisdictionStateOrProvince=B,jurisdictionLocality=b`)
	equal(`1.2.3.4=#0402abcd`, `1.2.3.4=#0402ABCD`)
	unequal(`1.2.3.4=#0402abcd`, `1.2.3.4=#0402abce`)
	unequal(`1.2.3.4=#0402abcd`, `1.2.3.4=\#0402abcd`) // the text that looks like it
	unequal(`2.5.4.97=#13024445`, `2.5.4.97=#13024652`)
	unequal(`2.5.4.97=#13024445`, `2.5.4.98=#13024445`)
	unequal(`CN=#04024142`, `CN=AB`)      // an OCTET STRING is not text
	unequal(`CN=#14024fe4`, `CN=O\C3\A4`) // a T61String with bytes beyond ASCII is not text
	equal(`CN=#0c01ff`, `CN=#0C01FF`)     // an invalid UTF8String is not text
	unequal(`CN=#0c01ff`, `CN=\EF\BF\BD`)
	equal(`CN=#0c8180`+strings.Repeat("41", 0x80), `CN=`+strings.Repeat("A", 0x80))
	unequal(`CN=#16024fe4`, `CN=#14024fe4`)
	unequal(`CN=#1e0141`, `CN=A`)
	unequal(`CN=#1e02d83d`, `CN=\EF\BF\BD`)
	unequal(`CN=#0c02c3a4`, `CN=#1602c3a4`) // UTF-8 in a string type that excludes it
}

// pair checks that a and b are the same name if want, and different names otherwise.
func pair(t *testing.T, a, b string, want bool) {
	t.Helper()
	x, y := mustDN(t, a), mustDN(t, b)
	if got := x.String() == y.String(); got != want {
		t.Errorf("%s == %s: got %v, want %v (as text: %s, %s)", a, b, got, want, x, y)
	}
	if got := x.MatchesSubject(derOf(y)); got != want {
		t.Errorf("%s matches the DER of %s: got %v, want %v", a, b, got, want)
	}
	if got := y.MatchesSubject(derOf(x)); got != want {
		t.Errorf("%s matches the DER of %s: got %v, want %v", b, a, got, want)
	}
}

func mustDN(t *testing.T, s string) DN {
	t.Helper()
	d, err := ParseDN(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	if again, err := ParseDN(d.String()); err != nil || again.String() != d.String() {
		t.Errorf("ParseDN(%q.String()) = %q, %v, want %q", s, again, err, d)
	}
	return d
}

// derOf encodes d with encoding/asn1, text as UTF8String.
func derOf(d DN) []byte {
	type pair struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type relativeNameSET []pair // encoding/asn1 encodes a type with this suffix as a SET
	var sequence []relativeNameSET
	for _, rdn := range d.rdns {
		var set relativeNameSET
		for _, a := range rdn {
			p := pair{Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(a.text)}}
			if a.der != "" {
				p.Value = asn1.RawValue{FullBytes: []byte(a.der)}
			}
			oid := append([]byte{byte(asn1.TagOID), byte(len(a.oid))}, a.oid...)
			if _, err := asn1.Unmarshal(oid, &p.Type); err != nil {
				return nil // an arc too large for encoding/asn1
			}
			set = append(set, p)
		}
		sequence = append(sequence, set)
	}
	der, err := asn1.Marshal(sequence)
	if err != nil {
		panic(err)
	}
	return der
}

func TestParseDNRefuses(t *testing.T) {
	const escapes = `a backslash escapes one of "+,;<>\ #= or two hexadecimal digits`
	const pairs = `expected pairs of hexadecimal digits after #; for the character # itself write \#`
	const unknown = `; any type can be written as its object identifier, such as 2.5.4.97`
	const one = "expected the DER of exactly one value after #"
	for dn, want := range map[string]string{
		"":                     `"" is not an attribute; write type=value, such as CN=name`,
		"acme":                 `"acme" is not an attribute; write type=value, such as CN=name`,
		"CN=a,":                `"" is not an attribute; write type=value, such as CN=name`,
		"CN=a,,O=b":            `unknown attribute type ",O"` + unknown,
		"CN=a+":                `"" is not an attribute; write type=value, such as CN=name`,
		",CN=a":                `unknown attribute type ",CN"` + unknown,
		"=a":                   `unknown attribute type ""` + unknown,
		"/C=DE/CN=a":           `unknown attribute type "/C"` + unknown,
		"FOO=a":                `unknown attribute type "FOO"` + unknown,
		"OID.CN=a":             `unknown attribute type "OID.CN"` + unknown,
		"OID.=a":               `unknown attribute type "OID."` + unknown,
		"3.1=a":                `unknown attribute type "3.1"` + unknown,
		"2.5.4.=a":             `unknown attribute type "2.5.4."` + unknown,
		"2=a":                  `unknown attribute type "2"` + unknown,
		"CN=":                  "the value of CN is empty",
		"CN= ,O=b":             "the value of CN is empty",
		"CN=#0c00":             "the value of CN is empty",
		"CN=a;O=b":             "the value of CN: ';' must be escaped with a backslash",
		`CN="a,b"`:             `the value of CN: '"' must be escaped with a backslash`,
		"CN=<a>":               "the value of CN: '<' must be escaped with a backslash",
		"CN=a\x00":             `the value of CN: '\x00' must be escaped with a backslash`,
		`CN=a\`:                "the value of CN: " + escapes,
		`CN=a\x`:               "the value of CN: " + escapes,
		`CN=a\4`:               "the value of CN: " + escapes,
		`CN=\C4`:               "the value of CN: not valid UTF-8",
		"CN=\xff":              "the value of CN: not valid UTF-8",
		"CN=#":                 "the value of CN: " + one,
		"CN=#1":                "the value of CN: " + pairs,
		"CN=#xyz":              "the value of CN: " + pairs,
		"CN=#0c0441636d":       "the value of CN: " + one, // too short
		"CN=#0c0141ff":         "the value of CN: " + one, // too long
		"CN=#0c810141":         "the value of CN: " + one, // length with a needless byte
		"CN=#0c82000141":       "the value of CN: " + one,
		"CN=#2c8041000000":     "the value of CN: " + one, // indefinite length
		"CN=#1f0141":           "the value of CN: " + one, // high tag number
		"CN=#0c84000000014100": "the value of CN: " + one,
		"CN=#0c80":             "the value of CN: " + one,
		"CN=#0c820080" + strings.Repeat("41", 0x80):               "the value of CN: " + one, // length with a needless zero
		"CN=#0c89010000000000000081" + strings.Repeat("41", 0x81): "the value of CN: " + one, // length beyond 64 bits
		"CN=a+CN=a":       "CN=a occurs twice between two commas",
		"CN=a+cn=#0c0161": "CN=a occurs twice between two commas",
	} {
		t.Run(dn, func(t *testing.T) {
			d, err := ParseDN(dn)
			if err == nil {
				t.Fatalf("ParseDN(%q) = %s, want an error", dn, d)
			}
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("ParseDN(%q) error (-want +got):\n%s", dn, diff)
			}
			if !d.IsZero() {
				t.Errorf("ParseDN(%q) = %s with an error, want the zero DN", dn, d)
			}
		})
	}
}

func TestDNText(t *testing.T) {
	for dn, want := range map[string]string{
		`cn=a , 2.5.4.10=b+OU=c`:   `CN=a,O=b+OU=c`,
		`OID.1.2.3.4=x`:            `1.2.3.4=x`,
		`1.2.3.4=#0402ABCD`:        `1.2.3.4=#0402abcd`,
		`CN=\#a b# \,\+\=\0a\ `:    `CN=\#a b# \,\+=\0a\ `,
		`GN=Ada,E=a@b.test`:        `givenName=Ada,emailAddress=a@b.test`,
		`CN=\ `:                    `CN=\ `,
		`jurisdictionCountry=DE`:   `jurisdictionC=DE`,
		`CN=Lu\C4\8Di\C4\87\00\7f`: `CN=Lučić\00\7f`,
	} {
		if got := mustDN(t, dn).String(); got != want {
			t.Errorf("ParseDN(%q).String() = %s, want %s", dn, got, want)
		}
	}
}

func TestZeroDN(t *testing.T) {
	d := mustDN(t, "CN=a")
	if err := d.UnmarshalText(nil); err != nil || !d.IsZero() || d.String() != "" {
		t.Errorf("UnmarshalText(nil) set %q, %v, want the zero DN", d, err)
	}
	if err := d.UnmarshalText([]byte("CN=b")); err != nil || d.String() != "CN=b" {
		t.Errorf("UnmarshalText set %q, %v, want CN=b", d, err)
	}
	if err := d.UnmarshalText([]byte("b")); err == nil || d.String() != "CN=b" {
		t.Errorf("UnmarshalText of a malformed name set %q, %v, want CN=b and an error", d, err)
	}
	// The zero DN matches no subject, and no DN matches an empty subject (T-DN-06).
	for _, subject := range [][]byte{nil, {}, {0x30, 0}, derOf(d)} {
		if (DN{}).MatchesSubject(subject) {
			t.Errorf("DN{}.MatchesSubject(%x) = true, want false", subject)
		}
	}
	if d.MatchesSubject([]byte{0x30, 0}) {
		t.Error("MatchesSubject of an empty sequence = true, want false")
	}
}

// Names are compared with the subject of a real certificate.
func TestDNMatchesCertificate(t *testing.T) {
	cert := testpki.SelfSigned("", testpki.Subject(pkix.Name{
		Country: []string{"DE"}, Organization: []string{"Acme, Inc."}, OrganizationalUnit: []string{"a", "b"}, CommonName: "Jörg",
	})).Cert
	for dn, want := range map[string]bool{
		`CN=Jörg,OU=a+OU=b,O=Acme\, Inc.,C=DE`:             true,
		`CN=J\C3\B6rg,OU=b+OU=a,O=Acme\2C Inc.,2.5.4.6=DE`: true,
		`CN=Jörg,OU=b,OU=a,O=Acme\, Inc.,C=DE`:             false,
		`C=DE,O=Acme\, Inc.,OU=a+OU=b,CN=Jörg`:             false,
		`CN=Jörg`:                                          false,
	} {
		if got := mustDN(t, dn).MatchesSubject(cert.RawSubject); got != want {
			t.Errorf("%s matches %s: got %v, want %v", dn, cert.Subject, got, want)
		}
	}
}

// One name is compared in the encodings that different authorities use, and with similar names
// (T-DN-01, T-DN-04, T-DN-09).
func TestDNMatchesEncodings(t *testing.T) {
	value := func(tag int, content string) asn1.RawValue {
		return asn1.RawValue{Tag: tag, Bytes: []byte(content)}
	}
	certificate := func(organization, identifier asn1.RawValue) *x509.Certificate {
		return testpki.SelfSigned("", func(c *x509.Certificate) {
			var err error
			c.RawSubject, err = asn1.Marshal([]rdnSET{
				{{asn1.ObjectIdentifier{2, 5, 4, 10}, organization}},
				{{asn1.ObjectIdentifier{2, 5, 4, 97}, identifier}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}).Cert
	}
	printable, utf8, bmp, t61 := asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagBMPString, asn1.TagT61String
	names := map[string]string{
		"by name": `organizationIdentifier=VATDE-1,O=Acme`,
		"by OID":  `2.5.4.97=VATDE-1,2.5.4.10=Acme`,
		"by hex":  `2.5.4.97=#130756415444452d31,O=#0c0441636d65`,
	}
	for line, tt := range map[string]struct {
		organization, identifier asn1.RawValue
		want                     bool
	}{
		"PrintableString":          {value(printable, "Acme"), value(printable, "VATDE-1"), true},
		"UTF8String":               {value(utf8, "Acme"), value(utf8, "VATDE-1"), true},
		"mixed":                    {value(t61, "Acme"), value(utf8, "VATDE-1"), true},
		"BMPString":                {value(bmp, "\x00A\x00c\x00m\x00e"), value(printable, "VATDE-1"), true},
		"other case":               {value(utf8, "ACME"), value(utf8, "VATDE-1"), false},
		"other identifier":         {value(utf8, "Acme"), value(utf8, "VATDE-2"), false},
		"a NUL behind":             {value(utf8, "Acme\x00"), value(utf8, "VATDE-1"), false},
		"an RDN in the other's":    {value(utf8, "Acme,organizationIdentifier=VATDE-1"), value(utf8, "VATDE-1"), false},
		"OCTET STRING":             {asn1.RawValue{Tag: asn1.TagOctetString, Bytes: []byte("Acme")}, value(utf8, "VATDE-1"), false},
		"the identifier beside O":  {value(utf8, "VATDE-1"), value(utf8, "Acme"), false},
		"half of a BMP character":  {value(bmp, "\x00A\x00c\x00m\x00"), value(utf8, "VATDE-1"), false},
		"UTF-8 in PrintableString": {value(printable, "Acm\xc3\xa9"), value(utf8, "VATDE-1"), false},
	} {
		der, err := asn1.Marshal([]rdnSET{{{asn1.ObjectIdentifier{2, 5, 4, 10}, tt.organization}}, {{asn1.ObjectIdentifier{2, 5, 4, 97}, tt.identifier}}})
		if err != nil {
			t.Fatal(line, err)
		}
		for spelling, dn := range names {
			if got := mustDN(t, dn).MatchesSubject(der); got != tt.want {
				t.Errorf("%s, %s: got %v, want %v", line, spelling, got, tt.want)
			}
			if !tt.want {
				continue
			}
			cert := certificate(tt.organization, tt.identifier)
			if !bytes.Equal(cert.RawSubject, der) || !mustDN(t, dn).MatchesSubject(cert.RawSubject) {
				t.Errorf("%s, %s: MatchesSubject(certificate) = false, want true", line, spelling)
			}
		}
	}
}

// rdnSET is an RDN. encoding/asn1 encodes a type with this suffix as a SET.
type rdnSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// Subjects with malformed DER match nothing.
func TestDNMalformedSubject(t *testing.T) {
	d := mustDN(t, "CN=a")
	const good = "300c310a300806035504030c0161"
	if der, _ := hex.DecodeString(good); !d.MatchesSubject(der) {
		t.Fatal("MatchesSubject of the well-formed subject = false, want true")
	}
	for name, subject := range map[string]string{
		"empty":                   "",
		"one byte":                "30",
		"cut short":               "300c310a300806035504030c01",
		"a byte left over":        "300c310a300806035504030c016100",
		"a SET around":            "310c310a300806035504030c0161",
		"a SEQUENCE for the RDN":  "300c300a300806035504030c0161",
		"a SET for the attribute": "300c310a310806035504030c0161",
		"no OID":                  "300c310a300804035504030c0161",
		"no value":                "3009310730050603550403",
		"two values":              "300f310d300b06035504030c01610c0162",
		"needless length byte":    "30810c310a300806035504030c0161",
		"indefinite length":       "3080310a300806035504030c01610000",
		"an empty RDN before":     "300e3100310a300806035504030c0161",
		"an empty RDN behind":     "300e310a300806035504030c01613100",
		"a byte left in the RDN":  "300d310b300806035504030c016100",
		"four length octets":      "30840000000c310a300806035504030c0161",
		"length beyond the end":   "30ff",
		"attribute twice":         "30163114300806035504030c0161300806035504030c0161",
	} {
		der, err := hex.DecodeString(subject)
		if err != nil {
			t.Fatal(name, err)
		}
		if d.MatchesSubject(der) {
			t.Errorf("%s: MatchesSubject = true, want false", name)
		}
	}
	// The same attribute twice in the certificate does not match two different attributes.
	twice, _ := hex.DecodeString("30163114300806035504030c0161300806035504030c0161")
	if mustDN(t, "CN=a+CN=b").MatchesSubject(twice) {
		t.Error("CN=a+CN=b matches a subject with CN=a twice, want no match")
	}
}

func TestMatchesSubjectAllocations(t *testing.T) {
	d := mustDN(t, `CN=a+UID=7,OU=b,O=Acme\, Inc.,C=DE`)
	der := derOf(d)
	if n := testing.AllocsPerRun(100, func() {
		if !d.MatchesSubject(der) {
			t.Error("MatchesSubject = false, want true")
		}
	}); n > 0 {
		t.Errorf("MatchesSubject: got %v allocations, want 0", n)
	}
}

// String and ParseDN are inverse, and a parsed name matches a subject that is encoded from its
// attributes.
func FuzzParseDN(f *testing.F) {
	seeds := []string{`CN=a`, `CN=Smith\, John+UID=\#7,O=\ a\ ,C=DE`, `2.5.4.97=#13024445`, `CN=#0402abcd`, `CN=Lu\C4\8Di`, `CN="a"`, `=`, `CN=a\`, `1.2.3=#3003020101`}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDN(s)
		if err != nil {
			return
		}
		again, err := ParseDN(d.String())
		if err != nil || again.String() != d.String() {
			t.Fatalf("ParseDN(ParseDN(%q).String()) = %q, %v, want %q", s, again, err, d)
		}
		if der := derOf(d); der != nil && (!d.MatchesSubject(der) || !again.MatchesSubject(der)) {
			t.Fatalf("MatchesSubject of %q and %x = false, want true", s, der)
		}
	})
}

// MatchesSubject never panics, and every subject that it matches is one element for encoding/asn1
// as well.
func FuzzMatchesSubject(f *testing.F) {
	names := []string{"CN=a", "CN=a+O=b,C=DE", "1.2.3=#0402abcd", "CN=#1e0141"}
	for _, n := range names {
		d, err := ParseDN(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(n, derOf(d))
	}
	f.Fuzz(func(t *testing.T, name string, subject []byte) {
		d, err := ParseDN(name)
		if err != nil || !d.MatchesSubject(subject) {
			return
		}
		var raw asn1.RawValue
		if rest, err := asn1.Unmarshal(subject, &raw); err != nil || len(rest) > 0 {
			t.Fatalf("MatchesSubject of %q and %x = true, but encoding/asn1 refuses the subject: %v", name, subject, err)
		}
	})
}
