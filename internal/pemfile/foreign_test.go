package pemfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// Files of other forms, written by openssl, are named in the error with the command that converts them.
func TestForeignForms(t *testing.T) {
	gatetest.NeedPrograms(t, "openssl")
	p := testpki.SelfSigned("gate")
	dir := t.TempDir()
	p.Write(dir, "gate")
	openssl := func(args ...string) []byte {
		t.Helper()
		command := exec.Command("openssl", append(args, "-out", "out")...)
		command.Dir = dir
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", args, err, output)
		}
		content, err := os.ReadFile(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"certificate in DER", openssl("x509", "-in", "gate.pem", "-outform", "DER"), "a certificate in DER form; convert it by openssl x509"},
		{"key in DER", openssl("pkcs8", "-topk8", "-nocrypt", "-in", "gate-key.pem", "-outform", "DER"), "a private key in DER form; convert it by openssl pkey"},
		{"SEC 1 key in DER", openssl("ec", "-in", "gate-key.pem", "-outform", "DER"), "a private key in DER form"},
		{"encrypted key in DER", openssl("pkcs8", "-topk8", "-in", "gate-key.pem", "-outform", "DER", "-passout", "pass:x"), "an encrypted private key in DER form"},
		{"PKCS #12", openssl("pkcs12", "-export", "-in", "gate.pem", "-inkey", "gate-key.pem", "-passout", "pass:x"), "a PKCS #12 file; take the certificates out by openssl pkcs12"},
		{"PKCS #7", openssl("crl2pkcs7", "-nocrl", "-certfile", "gate.pem", "-outform", "DER"), "a PKCS #7 file; convert it by openssl pkcs7"},
		{"Java keystore", []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"), "a Java keystore"},
		{"base64 alone", []byte("MIIBszCCAVmgAwIBAgIUe\n"), "base64 without the lines"},
		{"UTF-8 with a mark", append([]byte("\xef\xbb\xbf"), p.CertPEM()...), "byte order mark; save it as UTF-8"},
		{"UTF-16", toUTF16(p.CertPEM()), "UTF-16 text; save it as UTF-8"},
		{"another SEQUENCE", []byte{0x30, 3, 2, 1, 3}, "in PEM form"},
		{"text", []byte("gate"), "in PEM form"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, certificates := ParseCertificates("gate.bin", tt.content)
			_, key := ParseKey("gate.bin", tt.content)
			_, chain := ParseChain("gate.bin", tt.content)
			for kind, err := range map[string]error{"ParseCertificates": certificates, "ParseKey": key, "ParseChain": chain} {
				if err == nil || !strings.HasPrefix(err.Error(), "gate.bin: ") || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s returned the error %v, want %q of gate.bin", kind, err, tt.want)
				}
				if plain := tt.want == "in PEM form"; plain && !strings.HasSuffix(err.Error(), tt.want) {
					t.Errorf("%s returned the error %v, want no form", kind, err)
				}
			}
		})
	}
	// A mark before other text was never a fault: the border begins its line.
	if _, err := ParseCertificates("", append([]byte("\xef\xbb\xbfsubject=gate\n"), p.CertPEM()...)); err != nil {
		t.Errorf("ParseCertificates with a byte order mark before a line of text: %v, want no error", err)
	}
}

// toUTF16 returns text as UTF-16 with its mark, as PowerShell writes it.
func toUTF16(text []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(string(text))) {
		out = append(out, byte(unit), byte(unit>>8))
	}
	return out
}

// A chain that does not begin with the leaf is named as such, and a key of no certificate is not.
func TestChainOrder(t *testing.T) {
	ca := testpki.NewCA("Root")
	leaf := ca.Intermediate("Issuing").Leaf("gate")
	authority, own := string(ca.CertPEM()), string(leaf.CertPEM())
	_, err := ParseKeyPair("chain.pem", []byte(authority+own), "key.pem", leaf.KeyPEM())
	if want := "chain.pem:" + lines(authority) + ": the chain is in the wrong order: the certificate of the key key.pem must be first"; err == nil || err.Error() != want {
		t.Errorf("ParseKeyPair with the authority first returned the error %v, want %q", err, want)
	}
	_, err = ParseKeyPair("chain.pem", bytes.Join([][]byte{leaf.CertPEM(), ca.CertPEM()}, nil), "key.pem", testpki.SelfSigned("b").KeyPEM())
	if err == nil || strings.Contains(err.Error(), "order") {
		t.Errorf("ParseKeyPair with another key returned the error %v, want no word of the order", err)
	}
}
