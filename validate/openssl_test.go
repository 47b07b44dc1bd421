package validate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A tool is the openssl command in a folder of its own.
type tool struct {
	t   *testing.T
	dir string
}

func openssl(t *testing.T) tool {
	gatetest.NeedPrograms(t, "openssl")
	return tool{t, t.TempDir()}
}

func (o tool) run(arguments ...string) []byte {
	o.t.Helper()
	command := exec.Command("openssl", arguments...)
	command.Dir = o.dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		o.t.Fatalf("openssl %s: %v\n%s", arguments, err, stderr.String())
	}
	return out
}

// sign returns a compact JWS signed by openssl with key.pem. raw converts openssl's signature to
// the form of RFC 7518.
func (o tool) sign(header, claims M, raw func([]byte) []byte, command ...string) string {
	o.t.Helper()
	input := testpki.Segment(gatetest.JSON(header)) + "." + testpki.Segment(gatetest.JSON(claims))
	gatetest.WriteFile(o.t, filepath.Join(o.dir, "input"), []byte(input))
	return input + "." + testpki.Segment(raw(o.run(command...)))
}

func same(signature []byte) []byte { return signature }

// joined converts a DER signature to r and s of 32 bytes each, RFC 7518 section 3.4.
func joined(der []byte) []byte {
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &signature); err != nil {
		panic(err)
	}
	return append(signature.R.FillBytes(make([]byte, 32)), signature.S.FillBytes(make([]byte, 32))...)
}

// Keys, certificates and signatures made by openssl are accepted and refused like testpki's.
func TestOpenSSL(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	digest := []string{"dgst", "-sha256", "-sign", "key.pem", "input"}
	pss := []string{"dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sign", "key.pem", "input"}
	for _, c := range []struct {
		algorithm string
		generate  []string
		sign      []string
		raw       func([]byte) []byte
		jwk       func(o tool, spki []byte) M
	}{
		{"ES256", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, digest, joined, func(_ tool, spki []byte) M {
			point := spki[len(spki)-64:] // x and y are the end of the key
			return M{"kty": "EC", "crv": "P-256", "x": testpki.Segment(point[:32]), "y": testpki.Segment(point[32:])}
		}},
		{"RS256", []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}, digest, same, rsaJWK},
		{"PS256", []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}, pss, same, rsaJWK},
		{"EdDSA", []string{"-algorithm", "ED25519"}, []string{"pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "input"}, same, func(_ tool, spki []byte) M {
			return M{"kty": "OKP", "crv": "Ed25519", "x": testpki.Segment(spki[len(spki)-32:])}
		}},
	} {
		t.Run(c.algorithm, func(t *testing.T) {
			o := openssl(t)
			o.run(append([]string{"genpkey", "-out", "key.pem"}, c.generate...)...)
			jwk := c.jwk(o, o.run("pkey", "-in", "key.pem", "-pubout", "-outform", "DER"))
			jwk["kid"] = "by openssl"
			_, fromFile := gatetest.KeyFile(t, gatetest.KeySet(jwk))
			v := newValidator(t, Options{}, gatetest.AuthorizationServer(fromFile, gatetest.Algorithms(config.Algorithm(c.algorithm))))

			o.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "client-key.pem", "-out", "client.pem", "-subj", "/CN=ledger", "-days", "1")
			der := o.run("x509", "-in", "client.pem", "-outform", "DER")
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			cert := &access.Certificate{Leaf: leaf, Thumbprint: access.ThumbprintOf(leaf)}
			header := M{"alg": c.algorithm, "kid": "by openssl", "typ": "at+jwt"}
			for _, line := range []struct {
				name   string
				header M
				claims M
				want   access.Reason
			}{
				{"good", nil, nil, access.Granted},
				{"expired", nil, M{"exp": 1}, access.Expired},
				{"wrong audience", nil, M{"aud": "x"}, access.WrongAudience},
				{"wrong type", M{"typ": "JWT"}, nil, access.WrongType},
				{"wrong kid", M{"kid": "x"}, nil, access.UnknownKey},
				{"bound to another", nil, M{"cnf": M{"x5t#S256": partner.Thumbprint()}}, access.BoundToOther},
				{"unbound", nil, M{"cnf": nil}, access.NotBound},
			} {
				claims := bound(M{"cnf": M{"x5t#S256": opensslThumbprint(o)}}, line.claims)
				raw := o.sign(merged(header, line.header), claims, c.raw, c.sign...)
				if _, err := v.Validate(context.Background(), Credentials{Token: raw}, cert); gatetest.Reason(t, err) != line.want {
					t.Errorf("%s: got %v, want %s", line.name, err, line.want)
				}
			}
			foreign := testpki.NewSigner(c.algorithm, "by openssl")
			if _, err := v.Validate(context.Background(), Credentials{Token: foreign.Token(bound())}, cert); gatetest.Reason(t, err) != access.BadSignature {
				t.Errorf("token of another key: %v, want bad_signature", err)
			}
		})
	}
}

// opensslThumbprint returns the x5t#S256 of client.pem, computed by openssl.
func opensslThumbprint(o tool) string {
	o.t.Helper()
	line := strings.TrimSpace(string(o.run("x509", "-in", "client.pem", "-noout", "-fingerprint", "-sha256")))
	_, digits, _ := strings.Cut(line, "=")
	sum, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil || len(sum) != sha256.Size {
		o.t.Fatalf("fingerprint %q: %v", line, err)
	}
	return testpki.Segment(sum)
}

func rsaJWK(o tool, _ []byte) M {
	o.t.Helper()
	line := strings.TrimSpace(string(o.run("rsa", "-in", "key.pem", "-noout", "-modulus")))
	n, err := hex.DecodeString(strings.TrimPrefix(line, "Modulus="))
	if err != nil {
		o.t.Fatal(err)
	}
	return M{"kty": "RSA", "n": testpki.Segment(n), "e": "AQAB"} // 65537 is openssl's default
}

func merged(a, b M) M {
	all := M{}
	for _, m := range []M{a, b} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}
