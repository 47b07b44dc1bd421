package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"unicode"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// tracesPath is the path that the OTLP specification adds to the URL of a collector for all signals.
const tracesPath = "/v1/traces"

// A destination is a collector and how the gate connects to it.
type destination struct {
	url         string // with the path of traces
	roots       *x509.CertPool
	anchors     [][]byte // the certificates in roots
	header      http.Header
	certificate *tls.Certificate // the gate's certificate for the collector, or nil
}

// destinationOf returns the collector of settings and, where settings are empty, of the variables of the OTLP
// exporter. It returns nil if no collector is named, or if a variable switches the export off. An error names
// the variable and does not quote its value, which may be a secret.
func destinationOf(settings config.Tracing) (*destination, error) {
	if strings.EqualFold(variable("OTEL_SDK_DISABLED"), "true") || !exportsOTLP(variable("OTEL_TRACES_EXPORTER")) {
		return nil, nil
	}
	d := new(destination)
	var err error
	if settings.Endpoint != nil {
		d.url = settings.Endpoint.JoinPath(tracesPath).String()
	} else if d.url, err = urlFromEnvironment(); err != nil || d.url == "" {
		return nil, err
	}
	return d, errors.Join(d.setRoots(settings.Trust), d.setCertificate(), d.setHeader())
}

// variable returns the value of a variable. An empty variable counts as not set, as the OpenTelemetry
// specification demands.
func variable(name string) string { return strings.TrimSpace(os.Getenv(name)) }

// tracesVariable returns the value of the variable for traces, or else the value for all signals, and the name
// of the variable that has it.
func tracesVariable(name string) (value, from string) {
	from = "OTEL_EXPORTER_OTLP_TRACES_" + name
	if value = variable(from); value == "" {
		from = "OTEL_EXPORTER_OTLP_" + name
		value = variable(from)
	}
	return value, from
}

// exportsOTLP reports whether exporters, the value of OTEL_TRACES_EXPORTER, has OTLP, which is the default.
func exportsOTLP(exporters string) bool {
	if exporters == "" {
		return true
	}
	for name := range strings.SplitSeq(exporters, ",") {
		if strings.TrimSpace(name) == "otlp" {
			return true
		}
	}
	return false
}

// urlFromEnvironment returns the URL for traces, or "" if no variable has a URL. The URL for traces is used as
// it is; the path of traces is added to the URL for all signals.
func urlFromEnvironment() (string, error) {
	value, name := tracesVariable("ENDPOINT")
	if value == "" {
		return "", nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New(name + ": expected an http or https URL without user, query and fragment")
	}
	if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
		u = u.JoinPath(tracesPath)
	}
	return u.String(), nil
}

// setRoots sets the anchors that the certificate of the collector must chain to.
func (d *destination) setRoots(trust []config.Path) error {
	name := "tracing.trust"
	if len(trust) == 0 {
		var file string
		if file, name = tracesVariable("CERTIFICATE"); file == "" {
			return nil
		}
		trust = []config.Path{config.Path(file)}
	}
	d.roots = x509.NewCertPool()
	for _, file := range trust {
		certificates, err := pemfile.ReadCertificates(string(file))
		if err != nil {
			return fmt.Errorf("reading trust anchors of %s: %w", name, err)
		}
		for _, c := range certificates {
			d.roots.AddCert(c.Certificate)
			d.anchors = append(d.anchors, c.Raw)
		}
	}
	return nil
}

// setCertificate sets the gate's certificate for the collector.
func (d *destination) setCertificate() error {
	chain, name := tracesVariable("CLIENT_CERTIFICATE")
	key, _ := tracesVariable("CLIENT_KEY")
	if chain == "" && key == "" {
		return nil
	}
	pair, err := pemfile.ReadKeyPair(config.Path(chain), config.Path(key))
	if err != nil {
		return fmt.Errorf("reading the key pair of %s: %w", name, err)
	}
	d.certificate = &pair
	return nil
}

// key returns the values that d is made from.
func (d *destination) key() any {
	key := []any{d.url, d.anchors, d.header}
	if d.certificate != nil {
		key = append(key, d.certificate.Certificate)
	}
	return key
}

// setHeader sets the further fields of requests to the collector, such as the credentials that it demands.
func (d *destination) setHeader() error {
	d.header = make(http.Header)
	value, name := tracesVariable("HEADERS")
	if value == "" {
		return nil
	}
	for i, field := range strings.Split(value, ",") {
		key, escaped, found := strings.Cut(field, "=")
		key = strings.TrimSpace(key)
		text, err := url.PathUnescape(strings.TrimSpace(escaped))
		if !found || err != nil || !http1.IsToken(key) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%s: element %d is not name=value, with the value percent-encoded", name, i+1)
		}
		d.header.Set(key, text)
	}
	return nil
}
