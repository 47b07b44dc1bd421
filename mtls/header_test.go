package mtls

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// fronting returns settings that trust front proxies on loopback.
func fronting(formats ...config.HeaderFormat) *config.CertificateHeader {
	h := &config.CertificateHeader{Formats: formats, PEMHeader: "X-Ssl-Client-Cert"}
	h.TrustedProxies.Addresses = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	return h
}

// loadFronted returns a Trust with northwind's anchors, behind front proxies.
func loadFronted(t testing.TB, header *config.CertificateHeader, northwind *testpki.Pair, edits ...func(*config.Config)) *Trust {
	t.Helper()
	file, _ := northwind.Write(t.TempDir(), "northwind")
	cfg := &config.Config{}
	cfg.Listener.ClientCertificates.From, cfg.Listener.ClientCertificates.Header = config.FromHeader, header
	cfg.Partners.List = []config.Partner{{Name: "northwind", Trust: []config.Path{config.Path(file)}}}
	for _, edit := range edits {
		edit(cfg)
	}
	trust, err := LoadTrust(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// sent returns a request with the header lines, over a TLS connection from an address on which the sender
// presented chain.
func sent(from string, chain []*x509.Certificate, lines ...string) *http.Request {
	r := connected(chain)
	r.Header = http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	peer := &net.TCPAddr{IP: net.ParseIP(from), Port: 1}
	return r.WithContext(ConnContext(context.Background(), &addressed{remote: peer}))
}

// addressed is a connection with only an address.
type addressed struct {
	net.Conn
	remote net.Addr
}

func (c *addressed) RemoteAddr() net.Addr { return c.remote }

func b64(c *x509.Certificate) string     { return base64.StdEncoding.EncodeToString(c.Raw) }
func rfc9440(c *x509.Certificate) string { return ":" + b64(c) + ":" }

// escaped returns a chain in the form of nginx's $ssl_client_escaped_cert.
func escaped(chain ...*x509.Certificate) string {
	var text []byte
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

// T-CC-05, 06, 07, 08, 09: each format of header, valid and malformed.
func TestClientFromHeader(t *testing.T) {
	northwind := testpki.NewCA("Northwind Root")
	issuing := northwind.Intermediate("Issuing")
	p, q := northwind.Leaf("p"), northwind.Leaf("q")
	deep, untrusted := issuing.Leaf("deep"), testpki.SelfSigned("untrusted")
	expired := northwind.Leaf("old", testpki.Expired())
	serverOnly := northwind.Leaf("server", testpki.Usage(x509.ExtKeyUsageServerAuth))
	front := testpki.SelfSigned("front") // the certificate of the sender's own connection
	whole, other := rfc9440(p.Cert), rfc9440(q.Cert)
	x := func(element string) string { return "X-Forwarded-Client-Cert: " + element }
	cert, otherCert := `Cert="`+escaped(p.Cert)+`"`, `Cert="`+escaped(q.Cert)+`"`
	hash := "Hash=" + strings.Repeat("ab", 32)
	withTail := base64.StdEncoding.EncodeToString(append([]byte(nil), append(p.Cert.Raw, 0)...))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p.Cert.Raw}))
	many := strings.Repeat(", "+rfc9440(issuing.Cert), maxCertificates)
	// Certificates whose base64 has padding, and characters that the URL alphabet does not have.
	ragged, dashed := northwind.Leaf("p"), northwind.Leaf("p")
	for !strings.HasSuffix(b64(ragged.Cert), "=") {
		ragged = northwind.Leaf("p")
	}
	for !strings.ContainsAny(b64(dashed.Cert), "+/") {
		dashed = northwind.Leaf("p")
	}
	stray := []byte(b64(ragged.Cert)) // bits that stand for nothing, where two texts would be one certificate
	stray[strings.IndexByte(string(stray), '=')-1]++
	huge := new(big.Int).SetBit(big.NewInt(1), 16383, 1)
	const malformed, none = access.MalformedRequest, access.NoCertificate

	type lines = []string
	for _, tt := range []struct {
		name  string
		lines lines
		want  access.Reason
		who   *testpki.Pair // the certificate in the header, if the case is granted
	}{
		{"nothing", nil, none, nil},
		{"a header that is not read", lines{"X-Client-Cert: " + whole, "Ssl-Client-Cert: " + escaped(p.Cert)}, none, nil},

		{"Client-Cert", lines{"Client-Cert: " + whole}, access.Granted, p},
		{"with padding", lines{"Client-Cert: " + rfc9440(ragged.Cert)}, access.Granted, ragged},
		{"with a chain", lines{"Client-Cert: " + rfc9440(deep.Cert), "Client-Cert-Chain: " + rfc9440(issuing.Cert)}, access.Granted, deep},
		{"with a list as chain", lines{"Client-Cert: " + rfc9440(deep.Cert), "Client-Cert-Chain: " + rfc9440(northwind.Cert) + " ,\t" + rfc9440(issuing.Cert)}, access.Granted, deep},
		{"with a chain of two lines", lines{"Client-Cert: " + rfc9440(deep.Cert), "Client-Cert-Chain: " + rfc9440(northwind.Cert), "Client-Cert-Chain: " + rfc9440(issuing.Cert)}, access.Granted, deep},
		{"a victim in the chain", lines{"Client-Cert: " + rfc9440(untrusted.Cert), "Client-Cert-Chain: " + whole}, access.UntrustedCertificate, nil},
		{"without its chain", lines{"Client-Cert: " + rfc9440(deep.Cert)}, access.UntrustedCertificate, nil},
		{"a chain alone", lines{"Client-Cert-Chain: " + whole}, malformed, nil},
		{"untrusted", lines{"Client-Cert: " + rfc9440(untrusted.Cert)}, access.UntrustedCertificate, nil},
		{"expired", lines{"Client-Cert: " + rfc9440(expired.Cert)}, access.ExpiredCertificate, nil},
		{"for servers only", lines{"Client-Cert: " + rfc9440(serverOnly.Cert)}, access.WrongUsage, nil},
		{"an authority's", lines{"Client-Cert: " + rfc9440(northwind.Cert)}, access.WrongUsage, nil},
		{"twice", lines{"Client-Cert: " + whole, "Client-Cert: " + whole}, malformed, nil},
		{"two", lines{"Client-Cert: " + whole, "Client-Cert: " + other}, malformed, nil},
		{"a list", lines{"Client-Cert: " + whole + ", " + other}, malformed, nil},
		{"a list without space", lines{"Client-Cert: " + whole + "," + whole}, malformed, nil},
		{"a list of one", lines{"Client-Cert: " + whole + ","}, malformed, nil},
		{"with a parameter", lines{"Client-Cert: " + whole + ";a=b"}, malformed, nil},
		{"without colons", lines{"Client-Cert: " + b64(p.Cert)}, malformed, nil},
		{"without the last colon", lines{"Client-Cert: :" + b64(p.Cert)}, malformed, nil},
		{"three colons", lines{"Client-Cert: :" + whole}, malformed, nil},
		{"a colon", lines{"Client-Cert: :"}, malformed, nil},
		{"an empty byte sequence", lines{"Client-Cert: ::"}, malformed, nil},
		{"an empty value", lines{"Client-Cert: "}, none, nil},
		{"another alphabet", lines{"Client-Cert: :" + base64.URLEncoding.EncodeToString(dashed.Cert.Raw) + ":"}, malformed, nil},
		{"without padding", lines{"Client-Cert: :" + strings.TrimRight(b64(ragged.Cert), "=") + ":"}, malformed, nil},
		{"stray bits before the padding", lines{"Client-Cert: :" + string(stray) + ":"}, malformed, nil},
		{"a space within", lines{"Client-Cert: " + whole[:20] + " " + whole[20:]}, malformed, nil},
		{"a line end within", lines{"Client-Cert: " + whole[:21] + "\n" + whole[21:]}, malformed, nil},
		{"DER cut short", lines{"Client-Cert: :" + base64.StdEncoding.EncodeToString(p.Cert.Raw[:len(p.Cert.Raw)-3]) + ":"}, malformed, nil},
		{"DER and one byte more", lines{"Client-Cert: :" + withTail + ":"}, malformed, nil},
		{"a quoted string", lines{`Client-Cert: "` + b64(p.Cert) + `"`}, malformed, nil},
		{"1 MB", lines{"Client-Cert: :" + strings.Repeat("AAAA", 1<<18) + ":"}, malformed, nil},
		{"1 MB of nested DER", lines{"Client-Cert: :" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x30\x80", 1<<18))) + ":"}, malformed, nil},
		{"a chain with a hole", lines{"Client-Cert: " + whole, "Client-Cert-Chain: " + whole + ",," + whole}, malformed, nil},
		{"an empty chain", lines{"Client-Cert: " + whole, "Client-Cert-Chain: "}, access.Granted, p},
		{"both empty", lines{"Client-Cert: ", "Client-Cert-Chain: "}, none, nil},
		{"a chain and an empty value", lines{"Client-Cert: ", "Client-Cert-Chain: " + whole}, malformed, nil},
		{"an empty value twice", lines{"Client-Cert: ", "Client-Cert: "}, malformed, nil},
		{"an empty value and another", lines{"Client-Cert: ", "Client-Cert: " + whole}, malformed, nil},
		{"an empty line of a chain", lines{"Client-Cert: " + whole, "Client-Cert-Chain: ", "Client-Cert-Chain: " + whole}, malformed, nil},
		{"an empty value beside another format", lines{"Client-Cert: ", x(cert)}, access.Granted, p},
		{"a broken chain", lines{"Client-Cert: " + whole, "Client-Cert-Chain: ::"}, malformed, nil},
		{"too long a chain", lines{"Client-Cert: " + whole, "Client-Cert-Chain: " + many[2:]}, malformed, nil},
		{"an RSA key of 16,384 bits", lines{"Client-Cert: " + rfc9440(withKey(&rsa.PublicKey{N: huge, E: 65537}))}, access.UntrustedCertificate, nil},
		{"such a key in the chain", lines{"Client-Cert: " + whole, "Client-Cert-Chain: " + rfc9440(withKey(&rsa.PublicKey{N: huge, E: 65537}))}, access.UntrustedCertificate, nil},

		{"XFCC", lines{x(cert)}, access.Granted, p},
		{"of Envoy", lines{x("By=spiffe://gate/sa;" + hash + ";" + cert + `;Subject="CN=p,O=\"North\, \\ wind\"";URI=spiffe://p/a=b;DNS=p.example;DNS=q.example`)}, access.Granted, p},
		{"XFCC with a chain", lines{x(`Cert="` + escaped(deep.Cert) + `";Chain="` + escaped(deep.Cert, issuing.Cert) + `"`)}, access.Granted, deep},
		{"without quotes", lines{x("Cert=" + escaped(p.Cert))}, access.Granted, p},
		{"the last element counts", lines{x(otherCert + "," + hash + ";" + cert)}, access.Granted, p},
		{"the client's element comes first", lines{x("By=a;" + cert + ",By=b;" + `Cert="` + escaped(untrusted.Cert) + `"`)}, access.UntrustedCertificate, nil},
		{"the last has a hash alone", lines{x(cert + "," + hash)}, malformed, nil},
		{"a hash alone", lines{x(hash)}, malformed, nil},
		{"a chain of XFCC alone", lines{x(`Chain="` + escaped(p.Cert) + `"`)}, malformed, nil},
		{"a URI that begins an element", lines{x(otherCert + ";URI=spiffe://q," + cert)}, malformed, nil},
		{"a DNS name that begins one", lines{x(otherCert + ";DNS=q," + cert)}, malformed, nil},
		{"a URI that begins a Cert where there is none", lines{x("By=a;" + hash + ";URI=spiffe://q;" + cert)}, malformed, nil},
		{"a DNS name that does", lines{x("By=a;" + hash + ";DNS=q;" + cert)}, malformed, nil},
		{"a URI that begins a key", lines{x(otherCert + ";URI=spiffe://q;" + cert)}, malformed, nil},
		{"a subject that hides a Cert", lines{x(`Subject="x\";` + otherCert + `;URI=";` + cert)}, malformed, nil},
		{"a client's open quotation mark", lines{x(`Subject="` + "," + hash + ";" + cert)}, malformed, nil},
		{"another client's", lines{x(`Subject="\` + "," + hash + ";" + cert)}, malformed, nil},
		{"keys in another case", lines{x("cert=" + escaped(p.Cert))}, malformed, nil},
		{"an unknown key", lines{x(cert + ";Role=admin")}, malformed, nil},
		{"a key without value", lines{x(cert + ";By")}, malformed, nil},
		{"Cert twice", lines{x(cert + ";" + cert)}, malformed, nil},
		{"Subject twice", lines{x(cert + `;Subject="a";Subject="b"`)}, malformed, nil},
		{"a quotation mark without end", lines{x(cert[:len(cert)-1])}, malformed, nil},
		{"text after a quotation mark", lines{x(cert + "a;" + hash)}, malformed, nil},
		{"a key after a quotation mark", lines{x(cert + "a" + hash)}, malformed, nil},
		{"a quotation mark within", lines{x(hash + `"a";` + cert)}, malformed, nil},
		{"an empty element", lines{x(cert + ",")}, malformed, nil},
		{"an empty element first", lines{x("," + cert)}, malformed, nil},
		{"a semicolon at the end", lines{x(cert + ";")}, malformed, nil},
		{"a space after the comma", lines{x(cert + ", " + cert)}, malformed, nil},
		{"XFCC, empty", lines{x("")}, none, nil},
		{"Cert, empty", lines{x(`Cert=""`)}, malformed, nil},
		{"two in Cert", lines{x(`Cert="` + escaped(deep.Cert, issuing.Cert) + `"`)}, malformed, nil},
		{"Chain, empty", lines{x(cert + ";Chain=")}, malformed, nil},
		{"two lines of XFCC", lines{x(cert), x(cert)}, malformed, nil},

		{"PEM", lines{"X-SSL-Client-Cert: " + escaped(p.Cert)}, access.Granted, p},
		{"PEM with its chain", lines{"X-SSL-Client-Cert: " + escaped(deep.Cert, issuing.Cert)}, access.Granted, deep},
		{"PEM, plus signs as they are", lines{"X-SSL-Client-Cert: " + strings.ReplaceAll(escaped(p.Cert), "%2B", "+")}, access.Granted, p},
		{"base64, of Traefik", lines{"X-SSL-Client-Cert: " + b64(p.Cert)}, access.Granted, p},
		{"base64 with its chain", lines{"X-SSL-Client-Cert: " + b64(deep.Cert) + "," + b64(issuing.Cert)}, access.Granted, deep},
		{"base64, percent-encoded", lines{"X-SSL-Client-Cert: " + url.QueryEscape(b64(deep.Cert)+","+b64(issuing.Cert))}, access.Granted, deep},
		{"PEM, empty", lines{"X-SSL-Client-Cert: "}, none, nil},
		{"of Apache without a certificate", lines{"X-SSL-Client-Cert: (null)"}, malformed, nil},
		{"a bad escape", lines{"X-SSL-Client-Cert: " + escaped(p.Cert) + "%"}, malformed, nil},
		{"PEM cut short", lines{"X-SSL-Client-Cert: " + escaped(p.Cert)[:400]}, malformed, nil},
		{"a broken block, then a good one", lines{"X-SSL-Client-Cert: -----BEGIN%20CERTIFICATE-----%0A!%0A-----END%20CERTIFICATE-----%0A" + escaped(p.Cert)}, malformed, nil},
		{"text before", lines{"X-SSL-Client-Cert: a" + escaped(p.Cert)}, malformed, nil},
		{"text after", lines{"X-SSL-Client-Cert: " + escaped(p.Cert) + "a"}, malformed, nil},
		{"text between", lines{"X-SSL-Client-Cert: " + escaped(p.Cert) + "a%0A" + escaped(q.Cert)}, malformed, nil},
		{"a private key", lines{"X-SSL-Client-Cert: " + url.PathEscape(key)}, malformed, nil},
		{"a certificate, then a private key", lines{"X-SSL-Client-Cert: " + escaped(p.Cert) + url.PathEscape(key)}, malformed, nil},
		{"PEM with a header", lines{"X-SSL-Client-Cert: " + strings.Replace(escaped(p.Cert), "-----%0A", "-----%0AA:%20b%0A%0A", 1)}, malformed, nil},
		{"too long a PEM chain", lines{"X-SSL-Client-Cert: " + strings.Repeat(escaped(p.Cert), maxCertificates+1)}, malformed, nil},
		{"too long a list", lines{"X-SSL-Client-Cert: " + strings.Repeat(b64(p.Cert)+",", maxCertificates) + b64(p.Cert)}, malformed, nil},
		{"two lines of PEM", lines{"X-SSL-Client-Cert: " + escaped(p.Cert), "X-SSL-Client-Cert: " + escaped(p.Cert)}, malformed, nil},

		{"three that agree", lines{"Client-Cert: " + whole, x(cert), "X-SSL-Client-Cert: " + escaped(p.Cert)}, access.Granted, p},
		{"two that disagree", lines{"Client-Cert: " + whole, "X-SSL-Client-Cert: " + escaped(q.Cert)}, malformed, nil},
		{"the first is untrusted", lines{"Client-Cert: " + rfc9440(untrusted.Cert), x(cert)}, malformed, nil},
		{"one good, one malformed", lines{"Client-Cert: " + whole, x("Hash=")}, malformed, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trust := loadFronted(t, fronting(config.FormatRFC9440, config.FormatXFCC, config.FormatPEM), northwind)
			for _, own := range [][]*x509.Certificate{nil, chain(front), chain(q)} { // the certificate of the connection is never used
				r := sent("127.0.0.1", own, tt.lines...)
				for range 2 { // the second time from memory
					got, err := trust.Client(r)
					if reason(err) != tt.want || (got == nil) != (tt.who == nil) || got != nil && got.Leaf.Subject.CommonName != tt.who.Cert.Subject.CommonName {
						t.Errorf("Client returned %v, %v, want %s", got, err, tt.want)
					}
					if err != nil && len(err.Error()) > 300 {
						t.Errorf("the log would say %q", err)
					}
				}
				if shown := trust.PeerCertificate(r); own != nil && shown == own[0] && tt.who != q {
					t.Error("the front proxy's certificate is taken for the client's")
				}
			}
		})
	}
}

// withKey returns a self-issued certificate with a kind of key that testpki does not make.
func withKey(key any) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	ca := testpki.NewCA("Root")
	return testpki.Certify(template, ca.Cert, key, ca.Key)
}

// Only configured formats are parsed.
func TestFormatsThatAreNotRead(t *testing.T) {
	northwind := testpki.NewCA("Northwind Root")
	p := northwind.Leaf("p")
	lines := map[config.HeaderFormat]string{
		config.FormatRFC9440: "Client-Cert: " + rfc9440(p.Cert),
		config.FormatXFCC:    `X-Forwarded-Client-Cert: Cert="` + escaped(p.Cert) + `"`,
		config.FormatPEM:     "X-SSL-Client-Cert: " + escaped(p.Cert),
	}
	for read := range lines {
		trust := loadFronted(t, fronting(read), northwind)
		for format, line := range lines {
			want := access.NoCertificate
			if format == read {
				want = access.Granted
			}
			if _, err := trust.Client(sent("127.0.0.1", nil, line)); reason(err) != want {
				t.Errorf("%s where %s is read is judged %v", format, read, err)
			}
			// A malformed header of another format has no effect.
			if _, err := trust.Client(sent("127.0.0.1", nil, lines[read], "Client-Cert-Chain: x")); read != config.FormatRFC9440 && err != nil {
				t.Errorf("%s beside a header that is not read is judged %v", read, err)
			}
		}
	}
	// T-CC-13: a trailer is not a header.
	r := sent("127.0.0.1", nil)
	r.Trailer = http.Header{"Client-Cert": {rfc9440(p.Cert)}}
	if _, err := loadFronted(t, fronting(config.FormatRFC9440), northwind).Client(r); reason(err) != access.NoCertificate {
		t.Errorf("a certificate in a trailer is judged %v", err)
	}
}

// The validity period of a cached certificate is checked on each request.
func TestHeaderCertificateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, leaf, below := expiring()
		trust := loadFronted(t, fronting(config.FormatRFC9440), ca)
		expectExpiry(t, trust, sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(leaf.Cert)),
			sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(below.Cert), "Client-Cert-Chain: "+rfc9440(below.Intermediates[0])))
	})
}

// A header that was seen before is not parsed again, and untrusted certificates are not cached.
func TestHeaderCertificateIsCached(t *testing.T) {
	ca := testpki.NewCA("Root")
	trust := loadFronted(t, fronting(config.FormatRFC9440, config.FormatXFCC), ca)
	r := sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(ca.Leaf("a").Cert))
	if n := testing.AllocsPerRun(100, func() { _, _ = trust.Client(r) }); n > 0 {
		t.Errorf("Client made %v allocations on a known connection, want 0", n)
	}
	if n := trust.frontProxies.known.Len(); n != 1 {
		t.Errorf("%d certificates are cached, want 1", n)
	}
	for range 3 {
		untrusted := sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(testpki.SelfSigned("s").Cert))
		if _, err := trust.Client(untrusted); reason(err) != access.UntrustedCertificate {
			t.Errorf("judged %v", err)
		}
	}
	elsewhere := sent("127.0.0.1", nil, "X-Forwarded-Client-Cert: "+r.Header.Get("Client-Cert"))
	if _, err := trust.Client(elsewhere); reason(err) != access.MalformedRequest {
		t.Errorf("what was in one header, in another: judged %v", err)
	}
	// A certificate that needs a chain is refused without it, or with another chain.
	issuing := ca.Intermediate("Issuing")
	deep := "Client-Cert: " + rfc9440(issuing.Leaf("deep").Cert)
	if _, err := trust.Client(sent("127.0.0.1", nil, deep, "Client-Cert-Chain: "+rfc9440(issuing.Cert))); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*http.Request{sent("127.0.0.1", nil, deep), sent("127.0.0.1", nil, deep, "Client-Cert-Chain: "+rfc9440(ca.Cert))} {
		if _, err := trust.Client(r); reason(err) != access.UntrustedCertificate {
			t.Errorf("without the chain that was remembered: judged %v", err)
		}
	}
	names := make([]string, 200)
	for i := range names {
		names[i] = strings.Repeat("a", 40) + ".example"
	}
	long := sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(ca.Leaf("long", testpki.DNS(names...)).Cert))
	if _, err := trust.Client(long); err != nil {
		t.Errorf("a long one is judged %v", err)
	}
	if n := trust.frontProxies.known.Len(); n != 2 {
		t.Errorf("%d certificates are cached, want 2", n)
	}
}

func BenchmarkClient(b *testing.B) {
	ca := testpki.NewCA("Root")
	file, _ := ca.Write(b.TempDir(), "northwind")
	direct := &config.Config{}
	direct.Listener.ClientCertificates.Trust = []config.Path{config.Path(file)}
	own, err := LoadTrust(direct, Options{})
	if err != nil {
		b.Fatal(err)
	}
	leaf := ca.Leaf("a")
	byName := fronting(config.FormatRFC9440)
	frontCA := testpki.NewCA("Front")
	front := frontCA.Leaf("lb", testpki.DNS("lb.internal"))
	frontFile, _ := frontCA.Write(b.TempDir(), "front")
	byName.TrustedProxies.Certificates = &config.ProxyCertificates{SANDNS: []string{"lb.internal"}, Trust: []config.Path{config.Path(frontFile)}}
	for name, c := range map[string]struct {
		trust   *Trust
		request *http.Request
	}{
		"own":               {own, connected(chain(leaf))},
		"rfc9440":           {loadFronted(b, fronting(config.FormatRFC9440), ca), sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(leaf.Cert))},
		"pem":               {loadFronted(b, fronting(config.FormatPEM), ca), sent("127.0.0.1", nil, "X-SSL-Client-Cert: "+escaped(leaf.Cert))},
		"xfcc":              {loadFronted(b, fronting(config.FormatXFCC), ca), sent("127.0.0.1", nil, `X-Forwarded-Client-Cert: Cert="`+escaped(leaf.Cert)+`"`)},
		"rfc9440 from mTLS": {loadFronted(b, byName, ca), sent("127.0.0.1", chain(front), "Client-Cert: "+rfc9440(leaf.Cert))},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.trust.Client(c.request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
