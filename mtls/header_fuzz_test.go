package mtls

import (
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// spell replaces $P and $Q in fuzz inputs by certificates, which differ in each process: percent-encoded
// PEM, or base64 for $B.
func spell(p, q *x509.Certificate) *strings.Replacer {
	return strings.NewReplacer("$P", escaped(p), "$Q", escaped(q), "$B", b64(p))
}

// For any header, parsing fails or returns the only certificate in the header.
func FuzzFormats(f *testing.F) {
	ca := testpki.NewCA("Root")
	p, q := ca.Leaf("p").Cert, ca.Leaf("q").Cert
	write, formats := spell(p, q), formatsOf(fronting(config.FormatRFC9440, config.FormatXFCC, config.FormatPEM))
	for _, seed := range []struct {
		format     uint8
		text, list string
		ok         bool
	}{
		{0, ":$B:", "", true}, {0, ":$B:", ":$B:, :$B:", true}, {0, "::", "", false}, {0, ":$B:;a", "", false}, {0, "$B", "", false},
		{0, ":$B:, :$B:", "", false}, {0, ":$B:", ":$B:,", false}, {0, ":" + strings.Repeat("A", 5000) + ":", "", false},
		{1, `Cert="$P"`, "", true}, {1, `By=a;Hash=b;Cert="$Q",Cert="$P";Chain="$P$Q"`, "", true}, {1, `Subject="\";Cert=$Q;"`, "", false},
		{1, `Cert="$Q",Hash=a`, "", false}, {1, `Cert=$P;URI=a,Cert=$Q`, "", false}, {1, `cert=$P`, "", false}, {1, `Cert="$P`, "", false},
		{2, "$P", "", true}, {2, "$P$Q", "", true}, {2, "$B", "", true}, {2, "$B,$B", "", true}, {2, "$P%", "", false}, {2, "a$P", "", false},
		{2, "-----BEGIN%20CERTIFICATE-----%0A$P", "", false}, {2, "", "", false},
	} {
		f.Add(seed.format, seed.text, seed.list)
		_, err := formats[seed.format].parse(write.Replace(seed.text), linesOf(write.Replace(seed.list)))
		if (err == nil) != seed.ok {
			f.Errorf("%s in %s is judged %v", seed.text, formats[seed.format].leaf, err)
		}
	}
	f.Fuzz(func(t *testing.T, format uint8, text, chain string) {
		read := formats[int(format)%len(formats)]
		text = write.Replace(text)
		certificates, err := read.parse(text, linesOf(write.Replace(chain)))
		if err != nil {
			if certificates != nil || len(err.Error()) > 200 {
				t.Fatalf("%d certificates beside %v", len(certificates), err)
			}
			return
		}
		leaf, plain := certificates[0], text
		if strings.Contains(text, "%") {
			plain, _ = url.PathUnescape(text)
		}
		block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
		switch read.leaf {
		case "Client-Cert":
			if text != rfc9440(leaf) {
				t.Errorf("%q gave another certificate", text)
			}
		case "X-Forwarded-Client-Cert":
			if !strings.Contains(text, "Cert=") {
				t.Errorf("%q gave a certificate", text)
			}
		default:
			if !strings.HasPrefix(plain, b64(leaf)) && !strings.HasPrefix(strings.Join(strings.Fields(plain), ""), strings.Join(strings.Fields(block), "")) {
				t.Errorf("%q gave another certificate", text)
			}
		}
	})
}

func linesOf(lines string) []string {
	if lines == "" {
		return nil
	}
	return strings.Split(lines, "\n")
}

// For any header of a client and any names in its certificate, the header that Envoy makes gives the
// certificate of the client or an error.
func FuzzXFCC(f *testing.F) {
	ca := testpki.NewCA("Root")
	p, q := ca.Leaf("p").Cert, ca.Leaf("q").Cert
	write := spell(p, q)
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `,`, `\,`, `;`, `\;`) // RFC 2253, as Envoy writes a subject
	envoy := func(forged, subject, uri string) string {
		text := `By=spiffe://gate;Hash=00;Cert="` + escaped(p) + `";Subject="` + quote.Replace(subject) + `";URI=` + uri
		if forged != "" {
			text = forged + "," + text
		}
		return text
	}
	for _, seed := range []struct {
		forged, subject, uri string
		ok                   bool
	}{
		{"", "CN=p", "", true}, {"", `CN=a\`, "spiffe://p", true}, {"", `CN=";Cert="`, "spiffe://p/a=b", true},
		{"Cert=$Q", "CN=p", "", false}, {`Subject="`, "CN=p", "", false}, {`Subject="\`, `";Cert=$Q;Subject="`, "", false},
		{"", "", "a,Cert=$Q", false}, {"", "", "a;Cert=$Q", false}, {"", "", `a;Chain="$Q"`, false}, {"", "", "a;DNS=b", true}, {"", "", `"`, false},
		{`Cert="$Q",By=`, "", `",Cert="$Q"`, false}, {"By=a", "", "", false},
	} {
		f.Add(seed.forged, seed.subject, seed.uri)
		if _, err := parseXFCC(envoy(write.Replace(seed.forged), seed.subject, write.Replace(seed.uri)), nil); (err == nil) != seed.ok {
			f.Errorf("%+v is judged %v", seed, err)
		}
	}
	f.Fuzz(func(t *testing.T, forged, subject, uri string) {
		text := envoy(write.Replace(forged), write.Replace(subject), write.Replace(uri))
		certificates, err := parseXFCC(text, nil)
		if err == nil && string(certificates[0].Raw) != string(p.Raw) {
			t.Errorf("%q gave the certificate of another", text)
		}
	})
}
