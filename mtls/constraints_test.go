package mtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	encodingasn1 "encoding/asn1"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// An attribute is an attribute of a distinguished name, with the string type of its tag.
type attribute struct {
	id   encodingasn1.ObjectIdentifier
	tag  asn1.Tag
	text string
}

var (
	oidC, oidO, oidOU, oidCN = encodingasn1.ObjectIdentifier{2, 5, 4, 6}, encodingasn1.ObjectIdentifier{2, 5, 4, 10}, encodingasn1.ObjectIdentifier{2, 5, 4, 11}, encodingasn1.ObjectIdentifier{2, 5, 4, 3}
	oidMail                  = encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

func utf8String(id encodingasn1.ObjectIdentifier, text string) attribute {
	return attribute{id, asn1.UTF8String, text}
}

// name returns the DER of a distinguished name, one attribute in each RDN.
func name(attributes ...attribute) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range attributes {
			b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(a.id)
					b.AddASN1(a.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.text)) })
				})
			})
		}
	})
	return b.BytesOrPanic()
}

// general returns the DER of a GeneralName with this tag.
func general(tag asn1.Tag, content []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	return b.BytesOrPanic()
}

func directory(attributes ...attribute) []byte { return general(0xa4, name(attributes...)) }

// otherName returns a user principal name.
func otherName(text string) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(encodingasn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
	b.AddASN1(0xa0, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
	})
	return general(0xa0, b.BytesOrPanic())
}

// limits adds name constraints with these GeneralNames as bases; tail follows each base.
func limits(critical bool, permitted, excluded [][]byte, tail ...byte) testpki.Option {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for tag, bases := range [][][]byte{permitted, excluded} {
			if len(bases) == 0 {
				continue
			}
			b.AddASN1(asn1.Tag(tag).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				for _, base := range bases {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(base); b.AddBytes(tail) })
				}
			})
		}
	})
	return extra(oidNameConstraints, critical, b.BytesOrPanic())
}

// alternatives adds a subject alternative name.
func alternatives(critical bool, generals ...[]byte) testpki.Option {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, g := range generals {
			b.AddBytes(g)
		}
	})
	return extra(oidSubjectAltName, critical, b.BytesOrPanic())
}

func extra(id encodingasn1.ObjectIdentifier, critical bool, value []byte) testpki.Option {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

func subject(attributes ...attribute) testpki.Option {
	return func(c *x509.Certificate) { c.RawSubject = name(attributes...) }
}

func each(names ...[]byte) [][]byte { return names }

// T-ADD-10: constraints on names that crypto/x509 does not compare are applied, critical or not, in a
// subordinate authority and in the anchor. openssl agrees, where it is installed.
func TestNameConstraints(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	other, victim := utf8String(oidO, "Other"), utf8String(oidO, "Victim")
	app, de := utf8String(oidCN, "app"), utf8String(oidC, "DE")
	good, bad := subject(other, app), subject(victim, app)
	latin := attribute{oidO, asn1.T61String, "Caf\xe9"}
	for _, tt := range []struct {
		name      string
		tail      []byte // the part of the DER after each constraint
		permitted [][]byte
		excluded  [][]byte
		leaf      []testpki.Option
		want      bool
		alone     bool // openssl has another opinion
	}{
		{name: "inside", permitted: each(directory(other)), leaf: []testpki.Option{good}, want: true},
		{name: "outside", permitted: each(directory(other)), leaf: []testpki.Option{bad}},
		{name: "the subtree itself", permitted: each(directory(other)), leaf: []testpki.Option{subject(other)}, want: true},
		{name: "above the subtree", permitted: each(directory(other, app)), leaf: []testpki.Option{subject(other)}},
		{name: "in the second of two", permitted: each(directory(victim), directory(other)), leaf: []testpki.Option{good}, want: true},
		{name: "not at the beginning", permitted: each(directory(other)), leaf: []testpki.Option{subject(de, other, app)}},
		{name: "excluded", excluded: each(directory(victim)), leaf: []testpki.Option{bad}},
		{name: "not excluded", excluded: each(directory(victim)), leaf: []testpki.Option{good}, want: true},
		{name: "excluded within permitted", permitted: each(directory(other)), excluded: each(directory(other, app)), leaf: []testpki.Option{good}},
		{name: "everything is excluded", excluded: each(directory()), leaf: []testpki.Option{good}},
		{name: "everything is permitted", permitted: each(directory()), leaf: []testpki.Option{bad}, want: true},
		{name: "an empty subject", permitted: each(directory(other)), leaf: []testpki.Option{subject(), alternatives(true, general(0x82, []byte("app.test")))}, want: true},
		{name: "in another case, with more spaces", permitted: each(directory(utf8String(oidO, " oTher  people"))), leaf: []testpki.Option{subject(utf8String(oidO, "Other People "), app)}, want: true},
		{name: "in another string type", permitted: each(directory(other)), leaf: []testpki.Option{subject(attribute{oidO, asn1.PrintableString, "OTHER"}, app)}, want: true},
		{name: "excluded in another case and string type", excluded: each(directory(victim)), leaf: []testpki.Option{subject(attribute{oidO, asn1.PrintableString, "VIC\x54IM"}, app)}},
		{name: "in another case, not ASCII", permitted: each(directory(utf8String(oidO, "MÜLLER"))), leaf: []testpki.Option{subject(utf8String(oidO, "Müller"), app)}, want: true, alone: true},
		{name: "not composed", excluded: each(directory(utf8String(oidO, "Müller"))), leaf: []testpki.Option{subject(utf8String(oidO, "Mu\u0308ller"), app)}, alone: true},
		{name: "of another type", permitted: each(directory(other)), leaf: []testpki.Option{subject(utf8String(oidOU, "Other"), app)}},
		{name: "NUL behind, permitted, T-ADD-18", permitted: each(directory(other)), leaf: []testpki.Option{subject(utf8String(oidO, "Other\x00"), app)}},
		{name: "NUL behind, excluded, T-ADD-18", excluded: each(directory(victim)), leaf: []testpki.Option{subject(utf8String(oidO, "Victim\x00"), app)}, alone: true},
		{name: "a character that shows nothing, excluded", excluded: each(directory(victim)), leaf: []testpki.Option{subject(utf8String(oidO, "Vic\u00adtim"), app)}, alone: true},
		{name: "no text, permitted", permitted: each(directory(utf8String(oidO, "Café"))), leaf: []testpki.Option{subject(latin, app)}, alone: true},
		{name: "no text, excluded", excluded: each(directory(utf8String(oidO, "Café"))), leaf: []testpki.Option{subject(latin, app)}, alone: true},
		{name: "no text, but the same bytes", permitted: each(directory(latin)), leaf: []testpki.Option{subject(latin, app)}, want: true, alone: true},
		{name: "a directory name beside, inside", permitted: each(directory(other)), leaf: []testpki.Option{good, alternatives(false, directory(other, de))}, want: true},
		{name: "a directory name beside, outside", permitted: each(directory(other)), leaf: []testpki.Option{good, alternatives(false, directory(victim))}},
		{name: "a directory name alone in a critical extension", permitted: each(directory(other)), leaf: []testpki.Option{good, alternatives(true, directory(other))}, want: true},
		{name: "another form in a critical extension", permitted: each(directory(other)), leaf: []testpki.Option{good, alternatives(true, otherName("a"))}, want: true},
		{name: "a form that cannot be evaluated, without such a name", permitted: each(otherName("a")), leaf: []testpki.Option{good}, want: true},
		{name: "a form that cannot be evaluated, with one", permitted: each(otherName("a")), leaf: []testpki.Option{good, alternatives(false, otherName("a"))}, alone: true},
		{name: "a form that cannot be evaluated, excluded", excluded: each(otherName("a")), leaf: []testpki.Option{good, alternatives(false, otherName("b"))}, alone: true},
		{name: "a registered id", excluded: each(general(0x88, []byte{0x2a, 3})), leaf: []testpki.Option{good, alternatives(false, general(0x88, []byte{0x2a, 4}))}},
		{name: "a known form in a strange encoding", permitted: each(general(0x82, []byte("good.test"))), leaf: []testpki.Option{good, alternatives(false, general(0xa2, []byte{0x16, 1, 'a'}))}, alone: true},
		{name: "a DNS name, which crypto/x509 compares", permitted: each(general(0x82, []byte("good.test")), directory(other)), leaf: []testpki.Option{good, alternatives(false, general(0x82, []byte("bad.test")))}},
		{name: "both in order", permitted: each(general(0x82, []byte("good.test")), directory(other)), leaf: []testpki.Option{good, alternatives(false, general(0x82, []byte("a.good.test")))}, want: true},
		{name: "an address in the subject, inside", permitted: each(general(0x81, []byte("good.test"))), leaf: []testpki.Option{subject(app, attribute{oidMail, asn1.IA5String, "a@Good.test"})}, want: true},
		{name: "an address in the subject, outside", permitted: each(general(0x81, []byte("good.test"))), leaf: []testpki.Option{subject(app, attribute{oidMail, asn1.IA5String, "a@bad.test"})}},
		{name: "an address in the subject, excluded", excluded: each(general(0x81, []byte(".bad.test"))), leaf: []testpki.Option{subject(app, attribute{oidMail, asn1.IA5String, "a@x.bad.test"})}},
		{name: "an address that is none", permitted: each(general(0x81, []byte("good.test"))), leaf: []testpki.Option{subject(app, attribute{oidMail, asn1.IA5String, "good.test"})}},
		{name: "a maximum", permitted: each(directory(other)), tail: []byte{0x81, 1, 5}, leaf: []testpki.Option{good}},
		{name: "a minimum", excluded: each(directory(victim)), tail: []byte{0x80, 1, 1}, leaf: []testpki.Option{good}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, critical := range []bool{false, true} {
				limit := limits(critical, tt.permitted, tt.excluded, tt.tail...)
				root := testpki.NewCA("Root")
				for where, ca := range map[string]*testpki.Pair{"below": root.Intermediate("Sub", limit), "anchor": testpki.NewCA("Own", limit)} {
					leaf, anchor := ca.Leaf("app", tt.leaf...), root
					if where == "anchor" {
						anchor = ca
					}
					expectNamed(t, where, anchor, leaf, critical, tt.want)
					if !tt.alone {
						expectOpenSSL(t, where, anchor, leaf, critical, tt.want)
					}
				}
				// The constraints are in the certificate of another authority.
				sub := root.Intermediate("Sub", limit)
				expectNamed(t, "as the anchor, signed by another", sub, sub.Leaf("app", tt.leaf...), critical, tt.want)
			}
		})
	}
}

func expectNamed(t *testing.T, where string, anchor, leaf *testpki.Pair, critical, want bool) {
	t.Helper()
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {anchor}})
	for range 2 { // the second time from memory
		_, err := client(trust, chain(leaf))
		if judged := trust.checkConnection(chain(leaf), time.Now()); reason(err) != reason(judged) {
			t.Errorf("%s, critical %t: %v and %v", where, critical, err, judged)
		}
		if (err == nil) != want || err != nil && reason(err) != access.UntrustedCertificate {
			t.Errorf("%s, critical %t: %v, want it taken: %t", where, critical, err, want)
		}
	}
}

// expectOpenSSL compares the result with openssl verify.
func expectOpenSSL(t *testing.T, where string, anchor, leaf *testpki.Pair, critical, want bool) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		return
	}
	dir := t.TempDir()
	ca, _ := anchor.Write(dir, "ca")
	cert, _ := leaf.Write(dir, "leaf")
	out, err := exec.Command("openssl", "verify", "-check_ss_sig", "-partial_chain", "-purpose", "sslclient", "-CAfile", ca, "-untrusted", cert, cert).CombinedOutput()
	if (err == nil) != want {
		t.Errorf("%s, critical %t: openssl says %s, want it taken: %t", where, critical, strings.TrimSpace(string(out)), want)
	}
}

// The constraints of several authorities add up, for intermediate authorities too, except self-issued
// ones.
func TestNameConstraintsOfSeveral(t *testing.T) {
	de, other, app := utf8String(oidC, "DE"), utf8String(oidO, "Other"), utf8String(oidCN, "app")
	in := func(attributes ...attribute) testpki.Option {
		return limits(false, each(directory(attributes...)), nil)
	}
	root := testpki.NewCA("Root")
	first := root.Intermediate("First", in(de))
	second := first.Intermediate("Second", subject(de, utf8String(oidCN, "Second")), in(de, other))
	beyond := first.Intermediate("Beyond", subject(utf8String(oidCN, "Beyond")))
	// An authority with the same name and a new key: RFC 5280 section 6.1.3 (b) exempts it.
	renewed := first.Intermediate("First")
	for _, tt := range []struct {
		what   string
		issuer *testpki.Pair
		leaf   []attribute
		want   bool
	}{
		{"within both", second, []attribute{de, other, app}, true},
		{"within the first", second, []attribute{de, app}, false},
		{"within neither", second, []attribute{other, app}, false},
		{"below an authority that is outside", beyond, []attribute{de, app}, false},
		{"below one that has issued to itself", renewed, []attribute{de, app}, true},
		{"outside, below one that has issued to itself", renewed, []attribute{other, app}, false},
	} {
		leaf := tt.issuer.Leaf("app", subject(tt.leaf...))
		expectNamed(t, tt.what, root, leaf, false, tt.want)
		if tt.issuer != renewed { // openssl takes the renewed certificate for self-signed
			expectOpenSSL(t, tt.what, root, leaf, false, tt.want)
		}
	}
	own := root.Intermediate("Root", in(other))
	expectNamed(t, "a leaf that is self-issued", root, own.Leaf("Root"), false, false)
}

// A chain that satisfies the constraints is accepted beside a chain that does not, and only with its own
// anchor.
func TestNameConstraintsOnOneChain(t *testing.T) {
	strict, free := testpki.NewCA("Strict", limits(false, nil, each(directory()))), testpki.NewCA("Free")
	issuing := strict.Intermediate("Issuing")
	cross := testpki.Certify(issuing.Cert, free.Cert, issuing.Key.Public(), free.Key)
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {strict}, "borealis": {free}})
	leaf := issuing.Leaf("app")
	c, err := client(trust, append(chain(leaf), cross))
	if err != nil || c.ChainsTo(trust.Anchors()["northwind"]) || !c.ChainsTo(trust.Anchors()["borealis"]) {
		t.Errorf("%v, %v; want it to count for borealis alone", c, err)
	}
	if _, err := client(trust, chain(leaf)); reason(err) != access.UntrustedCertificate {
		t.Errorf("by the other way alone: %v", err)
	}
}

// The check of a chain with many names and many constraints takes at most a second.
func TestNameConstraintsAreBounded(t *testing.T) {
	var bases, alternative [][]byte
	for i := range 1500 {
		bases = append(bases, directory(utf8String(oidO, strconv.Itoa(i))))
		alternative = append(alternative, directory(utf8String(oidO, strconv.Itoa(i+1499))))
	}
	ca := testpki.NewCA("Root", limits(false, bases, nil))
	leaf := ca.Leaf("app", subject(utf8String(oidO, "1")), alternatives(false, alternative...))
	start := time.Now()
	expectNamed(t, "2.25 million pairs", ca, leaf, false, false)
	if took := time.Since(start); took > 4*time.Second { // the test checks the chain four times
		t.Errorf("the check took %s, want at most a second", took)
	}
}

// For any bytes, a name is inside its own subtree, and parsing does not panic.
func FuzzDirectoryName(f *testing.F) {
	f.Add(name(utf8String(oidO, "Other"), utf8String(oidCN, "a")), name(utf8String(oidO, "oTHER")))
	f.Add(name(attribute{oidO, asn1.T61String, "\xe9"}), name())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, ok := readDirectoryName(a)
		if !ok {
			return
		}
		if one.within(one) != inside || one.within(directoryName{}) != inside {
			t.Fatal("within reports a name outside its own subtree, want inside")
		}
		if two, ok := readDirectoryName(b); ok && len(one.rdns) == len(two.rdns) && one.within(two) != two.within(one) {
			t.Fatal("two names of one length are compared by their order")
		}
	})
}
