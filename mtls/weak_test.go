package mtls

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// rsaKey returns a new RSA key whose modulus has the given number of bits.
func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// T-ADD-14: weak keys and signatures in client certificates and in authorities above them.
func TestWeakCertificates(t *testing.T) {
	short, strong := rsaKey(t, 1024), rsaKey(t, 2048)
	three := &rsa.PublicKey{N: strong.N, E: 3}
	roca, _ := new(big.Int).SetString(rocaModulus, 16)
	signing := testpki.NewCA("Signing", testpki.Keyed(strong)) // by RSA
	ecdsaRoot := testpki.NewCA("Root")
	weakIssuing := ecdsaRoot.Intermediate("Issuing", testpki.Keyed(short))
	sha1 := testpki.SignedBy(x509.SHA1WithRSA)
	sha1Issuing := signing.Intermediate("Issuing", sha1)
	anchors := map[config.Name][]*testpki.Pair{"northwind": {signing, ecdsaRoot}}
	strict, open := load(t, false, anchors), load(t, true, anchors)
	for _, tt := range []struct {
		name             string
		chain            []*x509.Certificate
		want, selfSigned access.Reason
		detail           string
	}{
		{"RSA of 2048 bits", chain(ecdsaRoot.Leaf("a", testpki.Keyed(strong))), access.Granted, access.Granted, ""},
		{"RSA of 1024 bits", chain(ecdsaRoot.Leaf("a", testpki.Keyed(short))), access.WeakCertificate, access.WeakCertificate, "the certificate has an RSA key of fewer than 2048 bits"},
		{"the exponent 3", chain(ecdsaRoot.Leaf("a", testpki.Keyed(three))), access.WeakCertificate, access.WeakCertificate, "exponent"},
		{"ROCA", chain(ecdsaRoot.Leaf("a", testpki.Keyed(&rsa.PublicKey{N: roca, E: 65537}))), access.WeakCertificate, access.WeakCertificate, "ROCA"},
		{"below an authority of 1024 bits", chain(weakIssuing.Leaf("a")), access.WeakCertificate, access.WeakCertificate, "an authority above the certificate has an RSA key"},
		{"signed by SHA-1", chain(signing.Leaf("a", sha1)), access.WeakCertificate, access.WeakCertificate, "the certificate has a signature with SHA-1"},
		{"below an authority signed by SHA-1", chain(sha1Issuing.Leaf("a")), access.WeakCertificate, access.WeakCertificate, "an authority above the certificate has a signature with SHA-1"},
		{"self-signed, of 1024 bits", chain(testpki.SelfSigned("a", testpki.Keyed(short))), access.UntrustedCertificate, access.WeakCertificate, ""},
		{"self-signed, of 1024 bits, with the CA bit", chain(testpki.NewCA("a", testpki.Keyed(short))), access.WrongUsage, access.WeakCertificate, ""},
		{"self-signed by SHA-1, which proves nothing", chain(testpki.SelfSigned("a", testpki.Keyed(strong), sha1)), access.UntrustedCertificate, access.Granted, ""},
	} {
		for range 2 {
			_, err := client(strict, tt.chain)
			if reason(err) != tt.want || reason(strict.checkConnection(tt.chain, time.Now())) != tt.want || tt.detail != "" && !strings.Contains(err.Error(), tt.detail) {
				t.Errorf("%s: judged %v, want %s, %q", tt.name, err, tt.want, tt.detail)
			}
			if _, err := client(open, tt.chain); reason(err) != tt.selfSigned {
				t.Errorf("%s, with self-signed ones taken: judged %v, want %s", tt.name, err, tt.selfSigned)
			}
		}
	}
}

// withDate returns a configuration in which northwind has the anchors in files, and RSA keys of 1024 bits
// until a date.
func withDate(until string, files ...string) *config.Config {
	cfg := &config.Config{}
	p := config.Partner{Name: "northwind"}
	for _, f := range files {
		p.Trust = append(p.Trust, config.Path(f))
	}
	if until != "" {
		if err := p.InsecureRSA1024Until.UnmarshalText([]byte(until)); err != nil {
			panic(err)
		}
	}
	cfg.Partners.List = []config.Partner{p}
	return cfg
}

// T-ADD-14: an anchor with a weak key is a fault of the configuration, with file and line.
func TestWeakAnchors(t *testing.T) {
	dir := t.TempDir()
	strong := rsaKey(t, 2048)
	good, _ := testpki.NewCA("Good").Write(dir, "good")
	short, _ := testpki.NewCA("Short", testpki.Keyed(rsaKey(t, 1024))).Write(dir, "short")
	three, _ := testpki.NewCA("Three", testpki.Keyed(&rsa.PublicKey{N: strong.N, E: 3})).Write(dir, "three")
	sha1, _ := testpki.NewCA("SHA-1", testpki.Keyed(strong), testpki.SignedBy(x509.SHA1WithRSA)).Write(dir, "sha1")
	for _, tt := range []struct {
		name string
		cfg  *config.Config
		want []string
	}{
		{"good", withDate("", good), nil},
		{"self-signed by SHA-1, which does not matter", withDate("", sha1), nil},
		{"of 1024 bits", withDate("", good, short), []string{filepath.Base(short) + ":1: ", "1024", "fewer than 2048 bits"}},
		{"of 1024 bits, excepted", withDate("2999-01-01", good, short), nil},
		{"of 1024 bits, excepted once", withDate("2020-01-01", good, short), nil}, // its clients are refused, all others are not
		{"the exponent 3, whatever the exception", withDate("2999-01-01", three), []string{"three.pem:1: ", "exponent"}},
	} {
		_, err := LoadTrust(tt.cfg, Options{})
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		for _, want := range tt.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", tt.name, err, want)
			}
		}
	}
	shared := withDate("2999-01-01", good)
	shared.Partners.List = append(shared.Partners.List, config.Partner{Name: "borealis", Trust: []config.Path{config.Path(good)}})
	if _, err := LoadTrust(shared, Options{}); err == nil || !strings.Contains(err.Error(), "partners.list[1].trust") {
		t.Errorf("an excepted anchor that another partner has too: %v", err)
	}
	listed := withDate("2999-01-01", short)
	listed.Listener.ClientCertificates.Trust = []config.Path{config.Path(short)}
	if _, err := LoadTrust(listed, Options{}); err == nil || !strings.Contains(err.Error(), "short.pem:1: ") {
		t.Errorf("an excepted anchor that is the listener's too: %v", err)
	}
}

// The exception ends with its day, also for open connections and cached chains, and does not apply to other
// partners.
func TestRSA1024Exception(t *testing.T) {
	short := rsaKey(t, 1024)
	synctest.Test(t, func(t *testing.T) {
		for _, where := range []string{"client", "authority", "anchor"} {
			var today config.Date
			if err := today.UnmarshalText([]byte(time.Now().UTC().Format(time.DateOnly))); err != nil {
				t.Fatal(err)
			}
			checkValidity := testpki.Valid(time.Now().Add(-time.Hour), time.Now().Add(96*time.Hour))
			options := func(of string) []testpki.Option {
				if of == where {
					return []testpki.Option{checkValidity, testpki.Keyed(short)}
				}
				return []testpki.Option{checkValidity}
			}
			ca := testpki.NewCA("Root", options("anchor")...)
			leaf := ca.Intermediate("Issuing", options("authority")...).Leaf("a", options("client")...)
			file, _ := ca.Write(t.TempDir(), "ca")
			trust, err := LoadTrust(withDate(today.String(), file), Options{})
			if err != nil {
				t.Fatal(err)
			}
			r := connected(chain(leaf))
			expect := func(when string, want access.Reason) {
				t.Helper()
				_, err := trust.Client(r)
				if judged := trust.checkConnection(chain(leaf), time.Now()); reason(err) != want || reason(judged) != want {
					t.Errorf("%s, %s: %v and %v, want %s", where, when, err, judged, want)
				}
			}
			expect("on the day", access.Granted)
			time.Sleep(time.Until(today.End().Add(-time.Second)))
			expect("a second before its end", access.Granted)
			time.Sleep(time.Second)
			expect("at its end", access.WeakCertificate)
		}
	})
}

// An exception that is removed, or ends earlier, removes trust.
func TestRSA1024ExceptionRemoved(t *testing.T) {
	file, _ := testpki.NewCA("Root").Write(t.TempDir(), "ca")
	made := map[string]*Trust{}
	for _, until := range []string{"", "2998-01-01", "2999-01-01"} {
		trust, err := LoadTrust(withDate(until, file), Options{})
		if err != nil {
			t.Fatal(err)
		}
		made[until] = trust
	}
	for _, tt := range []struct {
		before, after string
		lacks         bool
	}{{"", "2999-01-01", false}, {"2998-01-01", "2999-01-01", false}, {"2999-01-01", "2998-01-01", true}, {"2999-01-01", "", true}} {
		if got := made[tt.after].RemovesTrust(made[tt.before]); got != tt.lacks {
			t.Errorf("from %q to %q: lacks %t", tt.before, tt.after, got)
		}
	}
}

// rocaModulus has 2048 bits, like a key of a chip with CVE-2017-15361: a power of 65537 modulo the product of
// the primes of package weakkey, plus a multiple of that product.
var rocaModulus = func() string {
	product := big.NewInt(1)
	for _, p := range []int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157} {
		product.Mul(product, big.NewInt(p))
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123_456_789), product)
	n.Add(n, new(big.Int).Mul(product, new(big.Int).Lsh(big.NewInt(1), 2048-uint(product.BitLen()))))
	return fmt.Sprintf("%x", n)
}()
