package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/explain"
	"github.com/tallygate/tallygate/internal/pemfile"
)

const (
	// dialTimeout bounds the connection and the handshake together.
	dialTimeout = 10 * time.Second
	// maxCertificateFile is far above any chain: 1 MiB holds about 500 certificates of 2 KiB.
	maxCertificateFile = 1 << 20
)

const thumbprintHelp = `Thumbprint prints the SHA-256 of a certificate's DER encoding, in base64url as it
stands in a token's cnf member (x5t#S256, RFC 8705 section 3.1) and in hexadecimal
as openssl and most consoles print it. The configuration takes either.

A source is a file in PEM or DER, "-" for standard input, or host:port of a TLS
server, whose certificate is shown without being verified. Of several certificates
in one source the first counts.

With --all it prints instead everything of the certificate that can be registered for
an application, one line each: every line is YAML that stands under "certificate:" in
the configuration. Names that the configuration does not take are left out. Of the
names one is enough, and at most one is allowed.`

func thumbprintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "thumbprint FILE|-|HOST:PORT ...",
		Short: "Print the x5t#S256 of certificates",
		Long:  thumbprintHelp,
		Example: "  tallygate thumbprint client.pem\n" +
			"  tallygate thumbprint -o json *.pem\n" +
			"  tallygate thumbprint api.example.com:8443\n" +
			"  tallygate thumbprint --all client.pem",
		Args: cobra.MinimumNArgs(1),
	}
	format := outputFlag(cmd)
	all := cmd.Flags().Bool("all", false, "print all settings that register the certificate, names included")
	cmd.RunE = func(cmd *cobra.Command, sources []string) error {
		shown := []explain.Certificate{}
		for _, source := range sources {
			c, err := readCertificate(cmd, source, *all)
			if err != nil && len(sources) == 1 {
				return err
			}
			if err != nil {
				report(cmd.ErrOrStderr(), err) // the certificates of the other sources are still printed
				continue
			}
			shown = append(shown, c)
		}
		if err := printCertificates(cmd, shown, *format); err != nil {
			return err
		}
		if missing := len(sources) - len(shown); missing > 0 {
			return fmt.Errorf("%d of %d sources have no certificate", missing, len(sources))
		}
		return nil
	}
	return cmd
}

func printCertificates(cmd *cobra.Command, certs []explain.Certificate, format outputFormat) error {
	if format == jsonOutput {
		return writeJSON(cmd.OutOrStdout(), certs)
	}
	for _, c := range certs {
		// The names are quoted, because the creator of the certificate chose them and a terminal could
		// execute some characters.
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: subject %q, issuer %q, valid from %s to %s, names %q\n", c.Source, c.Subject, c.Issuer,
			c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), c.Names)
		if _, err := io.WriteString(cmd.OutOrStdout(), c.Text()); err != nil {
			return err
		}
	}
	return nil
}

// readCertificate returns the certificate of source. An existing file is read even if its name
// looks like host:port. With all, the result lists the settings that register the certificate.
func readCertificate(cmd *cobra.Command, source string, all bool) (explain.Certificate, error) {
	var leaf *x509.Certificate
	var err error
	if isServer(source) {
		leaf, err = serverCertificate(cmd.Context(), source)
	} else {
		leaf, err = fileCertificate(cmd, source)
	}
	if err != nil {
		return explain.Certificate{}, err
	}
	c := explain.NewCertificate(source, leaf)
	if all {
		c.Registrable = explain.CertificateNames(leaf)
	}
	return c, nil
}

func isServer(source string) bool {
	if _, err := os.Stat(source); err == nil {
		return false
	}
	host, port, err := net.SplitHostPort(source)
	if err != nil || host == "" {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func fileCertificate(cmd *cobra.Command, source string) (*x509.Certificate, error) {
	content, err := readInput(source, cmd.InOrStdin(), maxCertificateFile)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	leaf, count, err := firstCertificate(source, content)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	if count > 1 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: holds %d certificates, the first is used\n", source, count)
	}
	return leaf, nil
}

// firstCertificate returns the first certificate in content, PEM or DER, and the number of
// certificates. Errors name the source.
func firstCertificate(source string, content []byte) (leaf *x509.Certificate, count int, err error) {
	blocks, err := pemfile.Blocks(source, content)
	if err != nil {
		return nil, 0, err
	}
	var der []byte
	var others []string // types of blocks that are not certificates
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			others = append(others, block.Type)
			continue
		}
		if count == 0 {
			der = block.Bytes
		}
		count++
	}
	switch {
	case count > 0:
		leaf, err = x509.ParseCertificate(der)
	case slices.ContainsFunc(others, func(t string) bool { return strings.HasSuffix(t, "PRIVATE KEY") }):
		err = errPrivateKey
	case len(others) > 0:
		err = fmt.Errorf("no certificate, only %q", others)
	case isPrivateKey(content):
		err = errPrivateKey
	default:
		if leaf, err = x509.ParseCertificate(content); err != nil {
			err = fmt.Errorf("neither PEM nor a DER certificate: %w", err)
		}
		count = 1
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%q: %w", source, err)
	}
	return leaf, count, nil
}

var errPrivateKey = errors.New("a private key, not a certificate; the thumbprint is the certificate's")

// isPrivateKey reports whether der is a private key in PKCS #8, SEC 1 or PKCS #1.
func isPrivateKey(der []byte) bool {
	_, pkcs8 := x509.ParsePKCS8PrivateKey(der)
	_, sec1 := x509.ParseECPrivateKey(der)
	_, pkcs1 := x509.ParsePKCS1PrivateKey(der)
	return pkcs8 == nil || sec1 == nil || pkcs1 == nil
}

// serverCertificate returns the leaf of the TLS server at address. It also works with servers that
// require a client certificate, because a server sends its own certificate before it checks the
// client's.
func serverCertificate(ctx context.Context, address string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var leaf *x509.Certificate
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS12,
		// This connection sends no data and reads only the certificate, so there is nothing to protect.
		// Often a user looks at a certificate because verification of the certificate fails. No other
		// connection of the program skips verification.
		InsecureSkipVerify: true, //nolint:gosec // G402: only the certificate is read, see above
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf = state.PeerCertificates[0]
			return nil
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close() // closing loses nothing, because nothing was sent
	}
	switch {
	case leaf != nil:
		return leaf, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("connecting to %q: no certificate within %s", address, dialTimeout)
	}
	return nil, fmt.Errorf("connecting to %q: %w", address, err)
}
