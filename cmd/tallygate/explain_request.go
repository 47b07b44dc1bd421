package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// maxCaptured bounds a captured request: the longest header that a gate can be
// configured to take, 1 MiB, and as much of a body.
const maxCaptured = 2 << 20

// request returns what the gate's handler would get. Its errors are of usage where the
// request could not be one: net/http turns such a one down before the gate sees it.
func (f *explainFlags) request(ctx context.Context, stdin io.Reader) (*http.Request, error) {
	chain, err := readChain(f.cert)
	if err != nil {
		return nil, err
	}
	text, err := f.wire(stdin)
	if err != nil {
		return nil, err
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("the request is none that reaches the gate; net/http answers it with 400: %w", err))
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

// wire returns the request as it is on the wire, HTTP/1.1.
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
	// As it was written: what the gate thinks of its path is the question.
	_, path, _ := strings.Cut(f.target[len("https://"):], u.Host)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", f.method, path, u.Host)
	for _, field := range f.headers {
		if !strings.Contains(field, ":") || strings.ContainsAny(field, "\r\n") {
			return nil, withCode(exitUsage, fmt.Errorf("--header: expected 'Name: value', got %q", field))
		}
		b.WriteString(field + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// captured returns what was on the wire. "curl --verbose" puts "> " in front of the lines
// that it sent, between others.
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
	sent.WriteString("\r\n\r\n") // where the empty line at its end was not captured
	return sent.Bytes()
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
		err = fmt.Errorf("more than %d bytes", most)
	}
	return content, err
}
