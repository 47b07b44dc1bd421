package pemfile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// lines returns the number of the line after text.
func lines(text string) string { return strings.TrimPrefix(positionOf("", []byte(text)), "line ") }

// T-ADD-20: a block that encoding/pem would skip is an error with file and line.
func TestCertificates(t *testing.T) {
	a, b := testpki.NewCA("A"), testpki.NewCA("B")
	one, two, key := string(a.CertPEM()), string(b.CertPEM()), string(a.KeyPEM())
	words := "subject=A\nissuer=A\n\n"
	for _, tt := range []struct {
		name, text string
		want       int    // certificates
		line, says string // the line and the text in the error
	}{
		{"one", one, 1, "", ""},
		{"two", one + two, 2, "", ""},
		{"words around them", words + one + words + two + words, 2, "", ""},
		{"CR LF", strings.ReplaceAll(one+two, "\n", "\r\n"), 2, "", ""},
		{"no line break at the end", strings.TrimSuffix(one, "\n"), 1, "", ""},
		{"empty", "", 0, "", "no certificate"},
		{"words alone", words, 0, "", "no certificate"},
		{"the first cut short", one[:len(one)-40] + "\n" + two, 0, "1", "cut short"},
		{"the second cut short", one + two[:len(two)/2], 0, lines(one), "cut short"},
		{"the second without its last line", one + two[:strings.Index(two, "-----END")], 0, lines(one), "cut short"},
		{"the second without its first line", one + two[strings.Index(two, "\n")+1:], 0, "", "cut short"},
		{"a border alone", one + "-----BEGIN", 0, lines(one), "cut short"},
		{"another end", strings.Replace(one, "END CERTIFICATE", "END X509 CRL", 1), 0, "1", "cut short"},
		{"text behind the end", strings.TrimSuffix(one, "\n") + "x\n" + two, 0, "1", "cut short"},
		{"indented", words + " " + one, 0, lines(words), "cut short"},
		{"an alphabet of its own", strings.Replace(one, "MII", "M*I", 1), 0, "1", "cut short"},
		{"no DER", one + block("CERTIFICATE", []byte("x")), 0, lines(one), "parsing the certificate"},
		{"DER with a tail", one + block("CERTIFICATE", append(bytes.Clone(b.Cert.Raw), 0)), 0, lines(one), "parsing the certificate"},
		{"headers", strings.Replace(one, "\n", "\nName: value\n\n", 1), 0, "1", "headers"},
		{"a private key", one + key, 0, lines(one), "a private key"},
		{"a private key first", key + one, 0, "1", "a private key"},
		{"an EC private key", one + block("EC PRIVATE KEY", []byte("x")), 0, lines(one), "a private key"},
		{"a list", one + block("X509 CRL", a.RevocationList()), 0, lines(one), `"X509 CRL"`},
		{"trusted by openssl", block("TRUSTED CERTIFICATE", a.Cert.Raw), 0, "1", `"TRUSTED CERTIFICATE"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bundle.pem")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadCertificates(file)
			if tt.want > 0 {
				if err != nil || len(got) != tt.want {
					t.Fatalf("ReadCertificates returned %d certificates, %v; want %d", len(got), err, tt.want)
				}
				if first := file + ":" + lines(tt.text[:strings.Index(tt.text, "-----BEGIN")]); got[0].Position != first {
					t.Errorf("the first certificate is at %q, want %q", got[0].Position, first)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), file+":"+tt.line) {
				t.Errorf("ReadCertificates returned %d certificates, %v; want the error %q at %s:%s", len(got), err, tt.says, file, tt.line)
			}
			if _, err := ReadPool([]string{file}); err == nil {
				t.Error("ReadPool returned a pool, want the error of ReadCertificates")
			}
		})
	}
	if pool, err := ReadPool[string](nil); pool != nil || err != nil {
		t.Errorf("ReadPool without files returned %v, %v; want nil, nil", pool, err)
	}
}

func TestKeys(t *testing.T) {
	p, other := testpki.SelfSigned("a"), testpki.SelfSigned("b")
	sec1, err := x509.MarshalECPrivateKey(p.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	key, curve, cert := string(p.KeyPEM()), block("EC PARAMETERS", []byte{6, 1, 1}), string(p.CertPEM())
	for _, tt := range []struct{ name, text, line, says string }{
		{"PKCS #8", key, "", ""},
		{"SEC 1", block("EC PRIVATE KEY", sec1), "", ""},
		{"behind its curve", curve + block("EC PRIVATE KEY", sec1), "", ""},
		{"beside its certificate", cert + key, "", ""},
		{"empty", "", "", "no private key"},
		{"a certificate alone", cert, "", "no private key"},
		{"cut short", key[:len(key)-30], "1", "cut short"},
		{"its certificate cut short", key + cert[:90], lines(key), "cut short"},
		{"of another kind", block("EC PRIVATE KEY", []byte("x")), "1", "does not parse"},
		{"under another name", block("RSA PRIVATE KEY", sec1), "1", "does not parse"},
		{"two", key + string(other.KeyPEM()), lines(key), "second private key"},
		{"encrypted", cert + block("ENCRYPTED PRIVATE KEY", sec1), lines(cert), "encrypted"},
		{"encrypted by RFC 1421", strings.Replace(block("EC PRIVATE KEY", sec1), "\n", "\nProc-Type: 4,ENCRYPTED\n\n", 1), "1", "encrypted"},
		{"a public key", block("PUBLIC KEY", sec1), "1", `"PUBLIC KEY"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseKey("own.pem", []byte(tt.text))
			if tt.says == "" {
				if err != nil || !p.Key.(*ecdsa.PrivateKey).Equal(got) {
					t.Fatalf("ParseKey returned %v, %v; want a key", got, err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "own.pem:"+tt.line) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ParseKey returned the error %v, want %q at own.pem:%s", err, tt.says, tt.line)
			}
		})
	}
}

func TestKeyPairs(t *testing.T) {
	p := testpki.NewCA("Root").Intermediate("Issuing").Leaf("a")
	chain, key := string(p.CertPEM()), string(p.KeyPEM())
	second := strings.Index(chain[1:], "-----BEGIN") + 1
	for _, tt := range []struct{ name, chain, key, says string }{
		{"two files", chain, key, ""},
		{"one file for both", chain + key, chain + key, ""},
		{"an intermediate cut short", chain[:len(chain)-40], key, "chain.pem:" + lines(chain[:second])},
		{"a malformed intermediate", chain[:second] + block("CERTIFICATE", []byte("x")), key, "chain.pem:" + lines(chain[:second])},
		{"no certificate", "", key, "chain.pem: no certificate"},
		{"the key in its place", key, key, "chain.pem: no certificate"},
		{"no key", chain, chain, "key.pem: no private key"},
		{"another's key", chain, string(testpki.SelfSigned("b").KeyPEM()), "does not match"},
		{"parameters", chain + block("DH PARAMETERS", []byte("x")), key, `"DH PARAMETERS"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseKeyPair("chain.pem", []byte(tt.chain), "key.pem", []byte(tt.key))
			if tt.says == "" {
				if err != nil || len(got.Certificate) != 2 || got.Leaf == nil {
					t.Fatalf("ParseKeyPair returned %d certificates, %v; want no error", len(got.Certificate), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ParseKeyPair returned the error %v, want %q", err, tt.says)
			}
		})
	}
}

// Each border in a text that Blocks accepts belongs to a block that encoding/pem reads too.
func FuzzBlocks(f *testing.F) {
	p := testpki.SelfSigned("a")
	for _, seed := range []string{"", "words", string(p.CertPEM()) + string(p.KeyPEM()), "-----BEGIN A-----\n-----END A-----\n", "-----BEGIN A-----\nX: y\n\nAAAA\n-----END A-----"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Blocks("a", text)
		if err != nil {
			if got != nil {
				t.Fatal("Blocks returned blocks with an error")
			}
			return
		}
		if bytes.Count(text, begin) != len(got) || bytes.Count(text, end) != len(got) {
			t.Fatalf("Blocks(%q) returned %d blocks, want one for each border", text, len(got))
		}
		for _, b := range got {
			var standard *pem.Block
			if standard, text = pem.Decode(text); standard == nil || standard.Type != b.Type || !bytes.Equal(standard.Bytes, b.Bytes) {
				t.Fatalf("Blocks returned %v, want %v as encoding/pem", b, standard)
			}
		}
	})
}
