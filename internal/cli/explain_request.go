package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/http1"
)

// maxCaptured bounds a captured request: 1 MiB of header, the most that a gate can be configured to
// accept, and 1 MiB of body.
const maxCaptured = 2 << 20

// request returns the request that the gate's handler would get. A request that the gate's server would
// refuse before the handler is a usage error.
func (f *explainFlags) request(ctx context.Context, stdin io.Reader) (*http.Request, error) {
	chain, err := readChain(f.cert)
	if err != nil {
		return nil, err
	}
	text, err := f.wire(stdin)
	if err != nil {
		return nil, err
	}
	text, second := asHTTP1(text)
	if !second {
		if err := checkHead(text); err != nil {
			return nil, malformed(text, err)
		}
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
	if err != nil { // err is not shown, because it quotes lines, which may hold a token
		return nil, malformed(text, errors.New("malformed request target or field"))
	}
	if second {
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	}
	if f.tokenFile != "" {
		token, err := readInput(f.tokenFile, stdin, maxCaptured)
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", err)
		}
		r.Header["Authorization"] = []string{"Bearer " + string(bytes.TrimSpace(token))}
	}
	r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, PeerCertificates: chain}
	r.RemoteAddr = "127.0.0.1:0"
	return r.WithContext(ctx), nil
}

// wire returns the request in the form of HTTP/1.1.
func (f *explainFlags) wire(stdin io.Reader) ([]byte, error) {
	if f.captured != "" {
		if f.captured == "-" && f.tokenFile == "-" {
			return nil, withCode(exitUsage, errors.New("--request and --token-file cannot both be standard input"))
		}
		text, err := readInput(f.captured, stdin, maxCaptured)
		if err != nil {
			return nil, fmt.Errorf("reading the captured request: %w", err)
		}
		return captured(text), nil
	}
	u, err := url.Parse(f.target)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Contains(f.target, "#") {
		return nil, withCode(exitUsage, errors.New("--target: must be an https URL with a host, without user and fragment"))
	}
	// url.URL would rewrite the path, and the gate decides about the path as it was sent.
	_, path, _ := strings.Cut(f.target[len("https://"):], u.Host)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", f.method, path, u.Host)
	for _, field := range f.headers {
		if !strings.Contains(field, ":") || strings.ContainsAny(field, "\r\n") {
			return nil, withCode(exitUsage, errors.New("--header: expected 'Name: value' on one line"))
		}
		b.WriteString(field + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// captured returns the lines of text that are the request. "curl --verbose" puts "> " before each line
// of the request, and prints other lines too.
func captured(text []byte) []byte {
	var sent bytes.Buffer
	for line := range bytes.Lines(text) {
		if of, ok := bytes.CutPrefix(line, []byte(">")); ok {
			sent.Write(bytes.TrimPrefix(of, []byte(" ")))
		}
	}
	if sent.Len() == 0 {
		sent.Write(text)
	}
	sent.WriteString("\r\n\r\n") // ends the header, in case the final empty line was not captured
	return sent.Bytes()
}

// asHTTP1 converts a request of HTTP/2, as curl prints it, to HTTP/1.1, and reports whether text was a
// request of HTTP/2.
func asHTTP1(text []byte) ([]byte, bool) {
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	line := bytes.TrimSuffix(first, []byte("\r"))
	for _, version := range []string{" HTTP/2", " HTTP/2.0"} {
		if start, ok := bytes.CutSuffix(line, []byte(version)); ok {
			return slices.Concat(start, []byte(" HTTP/1.1\r\n"), rest), true
		}
	}
	return text, false
}

// checkHead returns the fault for which the gate's server would refuse text, a request of HTTP/1.x, by its
// head. A captured request may have lost the CR of its line ends.
func checkHead(text []byte) error {
	var head bytes.Buffer
	for line := range bytes.Lines(text) {
		head.Write(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")))
		head.WriteString("\r\n")
	}
	_, _, err := new(http1.Parser).ParseRequest(head.Bytes(), nil)
	return err
}

// malformed returns the usage error for the request text, which the gate's server would refuse because of
// err.
func malformed(text []byte, err error) error {
	return withCode(exitUsage, fmt.Errorf("the request is malformed, and the gate would answer 400: %s", cmp.Or(fault(text), err.Error())))
}

// fault names the line that makes text invalid, if the fault is simple.
func fault(text []byte) string {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimRight(line, "\r\n")
		if number == 1 && !bytes.Contains(line, []byte(" HTTP/")) {
			return "line 1 is not 'METHOD PATH HTTP/1.1'"
		}
		if len(line) == 0 {
			break
		}
		if folded := line[0] == ' ' || line[0] == '\t'; number > 1 && !folded && bytes.IndexByte(line, ':') < 1 {
			return fmt.Sprintf("line %d is not 'Name: value'", number)
		}
	}
	return ""
}

// readInput reads a file, or standard input for "-".
func readInput(file string, stdin io.Reader, most int64) ([]byte, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%q is larger than %d bytes", file, most)
	}
	return content, err
}
