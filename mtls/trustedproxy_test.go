package mtls

import (
	"context"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// proxies returns settings that trust the addresses, and the certificates with one of the names under the
// anchors in file.
func proxies(addresses []string, file string, names ...string) config.TrustedProxies {
	var t config.TrustedProxies
	for _, a := range addresses {
		t.Addresses = append(t.Addresses, config.Network{Prefix: netip.MustParsePrefix(a)})
	}
	if file != "" {
		t.Certificates = &config.ProxyCertificates{SANDNS: names, Trust: []config.Path{config.Path(file)}}
	}
	return t
}

// T-CC-01, 03, 04, 10: headers of trusted front proxies count. For other senders, neither the header nor the
// certificate of the connection counts.
func TestTrustedProxies(t *testing.T) {
	northwind, operator := testpki.NewCA("Northwind Root"), testpki.NewCA("Operator Root")
	operatorFile, _ := operator.Write(t.TempDir(), "operator")
	p, own := northwind.Leaf("p"), northwind.Leaf("own")
	name := testpki.DNS("other.internal", "LB.internal")
	lb, noName, printer := operator.Leaf("lb", name), operator.Leaf("lb.internal"), operator.Leaf("lb", testpki.DNS("printer.internal", "lb.internal.example"))
	posing, twin := northwind.Leaf("lb", name), testpki.NewCA("Operator Root").Leaf("lb", name)
	old, server := operator.Leaf("lb", name, testpki.Expired()), operator.Leaf("lb", name, testpki.Usage(x509.ExtKeyUsageServerAuth))
	deep := operator.Intermediate("Issuing").Leaf("lb", name)

	byAddress := proxies([]string{"10.0.0.0/8", "2001:db8::/32"}, "")
	byName := proxies(nil, operatorFile, "gate.internal", "lb.internal")
	byBoth := proxies([]string{"10.0.0.0/8"}, operatorFile, "lb.internal")
	for _, tt := range []struct {
		name    string
		trusted config.TrustedProxies
		from    string
		own     []*x509.Certificate
		want    bool
	}{
		{"an address", byAddress, "10.1.2.3", nil, true},
		{"an address, mapped", byAddress, "::ffff:10.1.2.3", nil, true},
		{"an IPv6 address", byAddress, "2001:db8::1", nil, true},
		{"with a certificate besides", byAddress, "10.1.2.3", chain(own), true},
		{"another address", byAddress, "11.1.2.3", nil, false},
		{"another address with a partner's certificate", byAddress, "11.1.2.3", chain(own), false},
		{"another IPv6 address", byAddress, "2001:db9::1", nil, false},
		{"another address, whose header is its own certificate's", byAddress, "11.1.2.3", chain(p), false},

		{"a certificate", byName, "11.1.2.3", chain(lb), true},
		{"with its intermediate", byName, "11.1.2.3", chain(deep), true},
		{"none", byName, "10.1.2.3", nil, false},
		{"without the name", byName, "10.1.2.3", chain(noName), false},
		{"with other names", byName, "10.1.2.3", chain(printer), false},
		{"with the name, of a partner's authority", byName, "10.1.2.3", chain(posing), false},
		{"with the name, of an authority of that name", byName, "10.1.2.3", chain(twin), false},
		{"a partner's, then a front proxy's", byName, "10.1.2.3", chain(own, lb), false},
		{"expired", byName, "10.1.2.3", chain(old), false},
		{"for servers only", byName, "10.1.2.3", chain(server), false},
		{"an authority", byName, "10.1.2.3", chain(operator), false},

		{"both", byBoth, "10.1.2.3", chain(lb), true},
		{"the address alone", byBoth, "10.1.2.3", nil, false},
		{"the address, another certificate", byBoth, "10.1.2.3", chain(own), false},
		{"the certificate alone", byBoth, "11.1.2.3", chain(lb), false},

		{"no proxy is configured", config.TrustedProxies{}, "10.1.2.3", chain(lb), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := fronting(config.FormatRFC9440)
			settings.TrustedProxies = tt.trusted
			trust := loadFronted(t, settings, northwind)
			r := sent(tt.from, tt.own, "Client-Cert: "+rfc9440(p.Cert), "X-Forwarded-For: 10.1.2.3", "Forwarded: for=10.1.2.3", "X-Real-IP: 10.1.2.3")
			r.RemoteAddr = "10.1.2.3:1" // as PROXY protocol may say
			want := access.NoCertificate
			if tt.want {
				want = access.Granted
			}
			for range 2 {
				c, err := trust.Client(r)
				if reason(err) != want || tt.want && c.Leaf != p.Cert && c.Thumbprint != access.ThumbprintOf(p.Cert) {
					t.Fatalf("Client returned %v, %v, want %s", c, err, want)
				}
			}
			if (trust.PeerCertificate(r) != nil) != tt.want {
				t.Error("the log would name an untrusted certificate")
			}
		})
	}
	// A request without the address of its socket.
	r := sent("10.1.2.3", nil, "Client-Cert: "+rfc9440(p.Cert))
	settings := fronting(config.FormatRFC9440)
	settings.TrustedProxies = byAddress
	if _, err := loadFronted(t, settings, northwind).Client(r.WithContext(context.Background())); reason(err) != access.NoCertificate {
		t.Errorf("judged %v", err)
	}
	settings.TrustedProxies = proxies([]string{"0.0.0.0/0", "::/0"}, "") // validation refuses this in a configuration
	if _, err := loadFronted(t, settings, northwind).Client(r.WithContext(ConnContext(context.Background(), &addressed{remote: &net.UnixAddr{}}))); reason(err) != access.NoCertificate {
		t.Errorf("from no TCP connection: judged %v", err)
	}
}

// T-CC-02, T-CC-10: with from: tls no header is used, from any sender. The issuer never reads headers.
func TestHeaderAndConnectionCertificate(t *testing.T) {
	northwind := testpki.NewCA("Northwind Root")
	p, own := northwind.Leaf("p"), northwind.Leaf("own")
	r := sent("127.0.0.1", chain(own), "Client-Cert: "+rfc9440(p.Cert))
	c, err := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {northwind}}).Client(r)
	if err != nil || c.Leaf != own.Cert {
		t.Errorf("judged %v, %v", c, err)
	}
	fronted := loadFronted(t, fronting(config.FormatRFC9440), northwind)
	if c, err := fronted.Peer(r); err != nil || c.Leaf != own.Cert {
		t.Errorf("at the issuer: judged %v, %v", c, err)
	}
	if _, err := fronted.Peer(sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(p.Cert))); reason(err) != access.NoCertificate {
		t.Errorf("at the issuer, without a certificate: judged %v", err)
	}
}

// An authority of one partner must not authenticate front proxies.
func TestProxyAnchorsAreDisjoint(t *testing.T) {
	dir := t.TempDir()
	northwind, operator := testpki.NewCA("Northwind Root"), testpki.NewCA("Operator Root")
	northwindFile, _ := northwind.Write(dir, "northwind")
	operatorFile, _ := operator.Write(dir, "operator")
	again, _ := issue(northwind, northwind).Write(dir, "again") // with its key
	under, _ := operator.Intermediate("Northwind under Operator").Write(dir, "under")
	for name, tt := range map[string]struct {
		anchors, shared string
		fault           string
		own             string // northwind's
	}{
		"their own":                    {operatorFile, northwindFile, "", northwindFile},
		"a partner's":                  {northwindFile, operatorFile, `partner "northwind"`, northwindFile},
		"another with a partner's key": {again, operatorFile, `partner "northwind"`, northwindFile},
		"those of all partners":        {operatorFile, operatorFile, "", northwindFile}, // the operator's own authority for both
		"above a partner's":            {operatorFile, northwindFile, `partner "northwind"`, under},
		"missing":                      {dir + "/nowhere", operatorFile, "nowhere", northwindFile},
	} {
		cfg := &config.Config{}
		settings := fronting(config.FormatRFC9440)
		settings.TrustedProxies = proxies(nil, tt.anchors, "lb.internal")
		cfg.Listener.ClientCertificates = config.ClientCertificates{From: config.FromHeader, Header: settings, Trust: []config.Path{config.Path(tt.shared)}}
		cfg.Partners.List = []config.Partner{{Name: "northwind", Trust: []config.Path{config.Path(tt.own)}}, {Name: "southridge"}}
		_, err := LoadTrust(cfg, Options{})
		if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: LoadTrust returned %v", name, err)
		}
	}
}

// The same through a certificate that the configuration does not have: an anchor of front proxies may have
// certified a partner's authority at any time.
func TestFrontProxyUnderAPartnersAuthority(t *testing.T) {
	northwind, operator := testpki.NewCA("Northwind Root"), testpki.NewCA("Operator Root")
	template := *northwind.Cert
	template.SerialNumber = big.NewInt(7)
	cross := testpki.Certify(&template, operator.Cert, northwind.Key.Public(), operator.Key)
	name := testpki.DNS("lb.internal")
	operatorFile, _ := operator.Write(t.TempDir(), "operator")
	settings := fronting(config.FormatRFC9440)
	settings.TrustedProxies = proxies(nil, operatorFile, "lb.internal")
	trust := loadFronted(t, settings, northwind)
	passed := "Client-Cert: " + rfc9440(northwind.Leaf("p").Cert)
	under := northwind.Intermediate("Issuing").Leaf("lb", name)
	for _, own := range [][]*x509.Certificate{{northwind.Leaf("lb", name).Cert, cross}, append(chain(under), cross)} {
		if _, err := trust.Client(sent("127.0.0.1", own, passed)); reason(err) != access.NoCertificate {
			t.Errorf("behind a partner that poses as a front proxy: judged %v", err)
		}
		if trust.PeerTrust().checkConnection(own, time.Now()) == nil {
			t.Error("its certificate counts as one of a front proxy")
		}
	}
	if _, err := trust.Client(sent("127.0.0.1", append(chain(operator.Leaf("lb", name)), cross), passed)); err != nil {
		t.Errorf("behind a front proxy that shows that certificate, too: judged %v", err)
	}
	// A reload makes a shared authority the partner's own, and changes nothing else.
	northwindFile, _ := northwind.Write(t.TempDir(), "northwind")
	cfg := &config.Config{}
	shared := &cfg.Listener.ClientCertificates
	shared.From, shared.Header, shared.Trust = config.FromHeader, settings, []config.Path{config.Path(northwindFile)}
	cfg.Partners.List = []config.Partner{{Name: "northwind"}}
	before, err := LoadTrust(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Partners.List = []config.Partner{{Name: "northwind", Trust: shared.Trust}}
	after, err := LoadTrust(cfg, Options{Previous: before})
	if err != nil || !after.RemovesTrust(before) || after.PeerTrust().checkConnection([]*x509.Certificate{northwind.Leaf("lb", name).Cert, cross}, time.Now()) == nil {
		t.Errorf("after a reload, that authority still makes front proxies, %v", err)
	}
}

// T-CC-11: a reload that changes the trusted proxies takes effect with the next request on an open connection,
// and removes trust. A reload without a change does neither.
func TestReloadOfProxies(t *testing.T) {
	northwind, operator := testpki.NewCA("Northwind Root"), testpki.NewCA("Operator Root")
	dir := t.TempDir()
	northwindFile, _ := northwind.Write(dir, "northwind")
	operatorFile, _ := operator.Write(dir, "operator")
	otherFile, _ := testpki.NewCA("Operator Root").Write(dir, "other")
	state := func(previous *Trust, from config.CertificateSource, trusted config.TrustedProxies, formats ...config.HeaderFormat) *Trust {
		t.Helper()
		cfg := &config.Config{}
		cfg.Listener.ClientCertificates.From = from
		if from == config.FromHeader {
			cfg.Listener.ClientCertificates.Header = fronting(formats...)
			cfg.Listener.ClientCertificates.Header.TrustedProxies = trusted
		}
		cfg.Partners.List = []config.Partner{{Name: "northwind", Trust: []config.Path{config.Path(northwindFile)}}}
		trust, err := LoadTrust(cfg, Options{Previous: previous})
		if err != nil {
			t.Fatal(err)
		}
		return trust
	}
	p := northwind.Leaf("p")
	open := sent("10.1.2.3", chain(operator.Leaf("lb", testpki.DNS("lb.internal"))), "Client-Cert: "+rfc9440(p.Cert))
	byAddress := proxies([]string{"10.0.0.0/8"}, "")
	byName := proxies(nil, operatorFile, "lb.internal")
	for name, tt := range map[string]struct {
		before, after config.TrustedProxies
		from          config.CertificateSource
		format        config.HeaderFormat
		want          access.Reason
		same          bool
	}{
		"nothing changes":        {byName, proxies(nil, operatorFile, "lb.internal"), config.FromHeader, config.FormatRFC9440, access.Granted, true},
		"another address":        {byAddress, proxies([]string{"10.0.0.0/16"}, ""), config.FromHeader, config.FormatRFC9440, access.NoCertificate, false},
		"another name":           {byName, proxies(nil, operatorFile, "lb2.internal"), config.FromHeader, config.FormatRFC9440, access.NoCertificate, false},
		"another authority":      {byName, proxies(nil, otherFile, "lb.internal"), config.FromHeader, config.FormatRFC9440, access.NoCertificate, false},
		"another format":         {byName, byName, config.FromHeader, config.FormatXFCC, access.NoCertificate, false},
		"by name, no address":    {byAddress, byName, config.FromHeader, config.FormatRFC9440, access.Granted, false},
		"no front proxy anymore": {byName, config.TrustedProxies{}, config.FromTLS, "", access.UntrustedCertificate, false},
	} {
		t.Run(name, func(t *testing.T) {
			first := state(nil, config.FromHeader, tt.before, config.FormatRFC9440)
			if _, err := first.Client(open); err != nil {
				t.Fatal(err)
			}
			second := state(first, tt.from, tt.after, tt.format)
			if (second == first) != tt.same || second.RemovesTrust(first) == tt.same {
				t.Errorf("the same: %t; lacks: %t", second == first, second.RemovesTrust(first))
			}
			for range 2 {
				if _, err := second.Client(open); reason(err) != tt.want {
					t.Errorf("Client returned %v, want %s", err, tt.want)
				}
			}
			if third := state(second, config.FromHeader, tt.before, config.FormatRFC9440); (third == first) != tt.same {
				t.Errorf("LoadTrust returned the first Trust: %t, want %t", third == first, tt.same)
			} else if _, err := third.Client(open); err != nil {
				t.Errorf("back again: judged %v", err)
			}
		})
	}
}

// Without ConnContext the address is the zero Addr.
func TestSocketPeer(t *testing.T) {
	if got := socketPeerOf(&http.Request{}); got.IsValid() {
		t.Errorf("a request of no connection comes from %s", got)
	}
	if got := socketPeerOf(sent("fe80::1", nil)); got != netip.MustParseAddr("fe80::1") {
		t.Errorf("the peer is %s", got)
	}
}

// T-CC-09: a revoked certificate is refused in a header too, also if it is cached, and so is the certificate
// of a front proxy.
func TestRevokedBehindFrontProxy(t *testing.T) {
	northwind, operator := testpki.NewCA("Northwind Root"), testpki.NewCA("Operator Root")
	p, lb := northwind.Leaf("p"), operator.Leaf("lb", testpki.DNS("lb.internal"))
	l := newListed(t, northwind)
	operatorFile, _ := operator.Write(l.dir, "operator")
	settings := fronting(config.FormatRFC9440)
	settings.TrustedProxies = proxies(nil, operatorFile, "lb.internal")
	l.Listener.ClientCertificates.From, l.Listener.ClientCertificates.Header = config.FromHeader, settings
	l.file("northwind.crl")
	l.file("operator.crl")
	past := testpki.Updated(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	open := sent("10.1.2.3", chain(lb), "Client-Cert: "+rfc9440(p.Cert))
	var trust *Trust
	for i, step := range []struct {
		name                string
		northwind, operator []testpki.ListOption
		want                access.Reason
	}{
		{"no revocation", nil, nil, access.Granted},
		{"the client", []testpki.ListOption{testpki.Revoking(p)}, nil, access.RevokedCertificate},
		{"no revocation again", nil, nil, access.Granted},
		{"the front proxy", nil, []testpki.ListOption{testpki.Revoking(lb)}, access.NoCertificate},
		{"no revocation again", nil, nil, access.Granted},
		{"stale list of the client", []testpki.ListOption{past}, nil, access.RevocationUnknown},
		{"stale list of the front proxy", nil, []testpki.ListOption{past}, access.RevocationUnknown},
	} {
		number := testpki.Numbered(int64(i + 1))
		now := testpki.Updated(time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
		northwind.WriteRevocationList(l.dir, "northwind.crl", append([]testpki.ListOption{now, number}, step.northwind...)...)
		operator.WriteRevocationList(l.dir, "operator.crl", append([]testpki.ListOption{now, number}, step.operator...)...)
		if i == 5 || i == 6 {
			trust = nil // a list from before is taken at the start alone
		}
		trust = l.load(trust)
		for range 2 {
			if _, err := trust.Client(open); reason(err) != step.want {
				t.Errorf("%s: Client returned %v, want %s", step.name, err, step.want)
			}
		}
		if step.want == access.NoCertificate && trust.PeerCertificate(open) != nil {
			t.Error("the log would name the certificate of an untrusted header")
		}
	}
}
