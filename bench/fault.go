package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

// A fault is a kind of wrong request. A peer names the faults that it refuses.
type fault string

// The faults.
const (
	stolen      fault = "another partner's token"
	forged      fault = "a token with the signature of another token"
	expired     fault = "an expired token"
	otherIssuer fault = "a token of another issuer"
	otherAPI    fault = "a token for another audience"
	notListed   fault = "an application that is not on the allow-list"
	otherRoute  fault = "a path that is not on the application's allow-list"
)

var everyFault = []fault{stolen, forged, expired, otherIssuer, otherAPI, notListed, otherRoute}

// verify returns an error unless the server grants a valid request and refuses connections without a
// partner's certificate and the faults that the peer claims to check.
func verify(ctx context.Context, env *environment, s *server) error {
	v, p, other := s.variant, env.of(s.variant)[0], env.of(s.variant)[1].pair
	good := env.mint(v)(p)
	const path = "/accounts/7"
	granted := func() error {
		status, err := try(ctx, env, s, p.pair, good, path)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("answered with %d", status)
		}
		if err != nil {
			return s.failed(fmt.Errorf("a good request: %w", err))
		}
		return nil
	}
	err := granted()
	for deadline := time.Now().Add(10 * time.Second); s.peer.late && err != nil && time.Now().Before(deadline); err = granted() {
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	refused := func(what string, certificate *testpki.Pair, token, path string) error {
		status, err := try(ctx, env, s, certificate, token, path)
		switch {
		case err != nil, status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden:
			return nil
		}
		return s.failed(fmt.Errorf("%s was answered with %d", what, status))
	}
	if err := refused("no certificate", nil, good, path); err != nil {
		return err
	}
	if err := refused("a certificate of a strange authority", env.stranger, good, path); err != nil {
		return err
	}
	checks := s.peer.checks
	if v.opaque { // the other faults need signed tokens
		checks = []fault{stolen}
	}
	for _, f := range checks {
		certificate, token, path := p.pair, good, path
		switch f {
		case stolen:
			certificate = other
		case forged:
			another := env.token(v.algorithm, p, 0, testpki.M{"exp": time.Now().Add(time.Minute).Unix()})
			token = good[:strings.LastIndexByte(good, '.')] + another[strings.LastIndexByte(another, '.'):]
		case expired:
			token = env.token(v.algorithm, p, 0, testpki.M{"exp": time.Now().Add(-time.Hour).Unix()})
		case otherIssuer:
			token = env.token(v.algorithm, p, 0, testpki.M{"iss": "https://other.example.test"})
		case otherAPI:
			token = env.token(v.algorithm, p, 0, testpki.M{"aud": "https://other.example.test"})
		case notListed:
			token = env.token(v.algorithm, p, 1<<20)
		case otherRoute:
			path = "/payments/7"
		}
		if err := refused(string(f), certificate, token, path); err != nil {
			return err
		}
	}
	return granted() // a server that has crashed refuses everything too
}

// try makes one request over a new connection and returns the status of the answer. A refused
// handshake is an error.
func try(ctx context.Context, env *environment, s *server, certificate *testpki.Pair, token, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: serverName, MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(env.root)
	if certificate != nil {
		shown := certificate.TLS() // even if the server's request names other authorities
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
	}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, serverName, token); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK && len(body) != smallAnswer {
		err = fmt.Errorf("a body of %d bytes", len(body))
	}
	return response.StatusCode, err
}
