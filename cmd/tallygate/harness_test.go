package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testotlp"
	"github.com/tallygate/tallygate/internal/testpki"
)

// patience bounds every wait of a script. On a busy machine, under the race
// detector, a gate takes a second to start.
const patience = 20 * time.Second

// A testGate is a gate process with the certificates, keys, tokens and the upstream of its test or script.
type testGate struct {
	dir      string
	pairs    map[string]*testpki.Pair
	signers  map[string]*testpki.Signer
	tokens   map[string]string
	upstream *recorder
	process  *exec.Cmd
	// environment has the variables of the process in addition to the variables of the test.
	environment []string
	arguments   []string            // arguments of serve, behind --config
	collector   *testotlp.Collector // nil unless the script starts one
	exited      chan error
	log         *gatetest.Log
	addresses   map[string]string // the addresses of the gate's listeners, by name
	answer      *http.Response    // to the last call
	body        []byte
	open        bool // raw requests do not ask for their connections to be closed
	verbatim    bool // body has all received bytes, with the header and further answers
	refusals    map[string]int
	long        string // the value of @long
	proof       string // the last DPoP proof
	nonce       string // the last DPoP-Nonce header, what @nonce stands for in a proof

	// The issuer's address is part of its identifier, so it is chosen beforehand.
	issuerAddress string
}

func newTestGate(dir string) *testGate {
	w := &testGate{
		dir: dir, upstream: newRecorder(), tokens: map[string]string{}, refusals: map[string]int{},
		signers: map[string]*testpki.Signer{
			"good": testpki.NewSigner("ES256", "k1"), "other": testpki.NewSigner("ES256", "k1"), "unknown": testpki.NewSigner("ES256", "k9"),
			"dpop": testpki.NewSigner("ES256", ""), "other-dpop": testpki.NewSigner("EdDSA", ""),
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	w.issuerAddress = l.Addr().String()
	_ = l.Close()
	northwind, borealis, dormant := testpki.NewCA("Northwind Root"), testpki.NewCA("Borealis Root"), testpki.NewCA("Dormant Root")
	operations := testpki.NewCA("Operations Root")
	ledger, gateNames := testpki.DNS("ledger.northwind.example"), testpki.DNS("api.example.test", "as.example.test")
	constrained := northwind.Intermediate("Northwind Issuing", testpki.PermitDirectory(pkix.Name{Organization: []string{"Northwind"}}))
	// Northwind's authority has certified the authority of borealis, and borealis' authority has certified a leaf
	// with northwind's name.
	crossed := borealis.Leaf("ledger", ledger)
	crossed.Intermediates = []*x509.Certificate{northwind.Intermediate("Borealis Root", testpki.Keyed(borealis.Key.Public())).Cert}
	shortKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	w.pairs = map[string]*testpki.Pair{
		"gate":         testpki.SelfSigned("gate", gateNames, testpki.IP("127.0.0.1"), testpki.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(0, 0, 90))),
		"gate-later":   testpki.SelfSigned("gate", gateNames, testpki.Usage(x509.ExtKeyUsageClientAuth), testpki.Valid(time.Now().Add(time.Hour), time.Now().AddDate(0, 0, 90))),
		"expired-ca":   testpki.NewCA("Expired Root", testpki.Expired()),
		"northwind-ca": northwind, "borealis-ca": borealis, "dormant-ca": dormant,
		"northwind": northwind.Leaf("ledger", ledger),
		"renewed":   northwind.Leaf("ledger", ledger),
		"unnamed":   northwind.Leaf("another machine", testpki.DNS("printer.northwind.example")),
		"expired":   northwind.Leaf("ledger", ledger, testpki.Expired()),
		"borealis":  borealis.Leaf("sync"),
		"posing":    borealis.Leaf("ledger", ledger), // borealis certifies northwind's name
		"crossed":   crossed,
		"inside":    constrained.Leaf("ledger", ledger, testpki.Subject(pkix.Name{Organization: []string{"Northwind"}, CommonName: "ledger"})),
		"outside":   constrained.Leaf("ledger", ledger, testpki.Subject(pkix.Name{Organization: []string{"Borealis"}, CommonName: "ledger"})),
		"dormant":   dormant.Leaf("app"),
		"serving":   northwind.Leaf("ledger", ledger, testpki.Usage(x509.ExtKeyUsageServerAuth)),
		"web":       borealis.Leaf("sync", testpki.Usage(x509.ExtKeyUsageServerAuth)),
		"negative":  northwind.Leaf("ledger", ledger).Negative(northwind),
		"weak":      northwind.Leaf("ledger", ledger, testpki.Keyed(shortKey)),
		"stranger":  testpki.SelfSigned("ledger", ledger),
		"issuer":    testpki.SelfSigned("the issuer's signing key"),
		// The certificates of the issuer's operators.
		"operations-ca": operations,
		"anna":          operations.Leaf("anna", testpki.DNS("anna.operations.example")),
		"bert":          operations.Leaf("bert", testpki.DNS("bert.operations.example")),
	}
	for name, pair := range w.pairs {
		pair.Write(dir, name)
	}
	for file, signer := range map[string]string{"keys.json": "good", "other-keys.json": "other"} {
		if err := os.WriteFile(filepath.Join(dir, file), testpki.KeySet(w.signers[signer]), 0o600); err != nil {
			panic(err)
		}
	}
	return w
}

func (w *testGate) close() {
	if w.process != nil {
		_ = w.process.Process.Kill()
		<-w.exited
	}
	w.upstream.close()
}

// start runs the gate and waits until all listeners are open.
func (w *testGate) start(executable, config string) error {
	w.log = &gatetest.Log{}
	w.process = exec.Command(executable, append([]string{"serve", "--config", config}, w.arguments...)...)
	w.process.Dir, w.process.Stderr = w.dir, w.log
	w.process.Env = append(os.Environ(), w.environment...)
	if err := w.process.Start(); err != nil {
		return err
	}
	w.exited = make(chan error, 1)
	go func() { w.exited <- w.process.Wait() }()
	w.addresses, w.refusals = map[string]string{}, map[string]int{} // a new process counts anew
	gatetest.Within(patience, func() bool {
		for _, line := range w.lines("listening") {
			w.addresses[line["listener"].(string)] = line["address"].(string)
		}
		return w.addresses["admin"] != "" || len(w.exited) > 0 // the admin listener is opened last
	})
	if w.addresses["admin"] == "" {
		return fmt.Errorf("the gate ended (%t) or does not listen:\n%s", len(w.exited) > 0, w.log.Bytes())
	}
	return nil
}

// accountRequest returns a request with token for an account of the API at address, which is host:port.
func accountRequest(ctx context.Context, address, token string) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/accounts/7", nil)
	if err != nil {
		panic(err)
	}
	r.Host = "api.example.test"
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// stop ends the gate with SIGINT, which skips drain.delay. The gate must end without an error, and
// its log must hold no secret and be as docs/logs.md says.
func (w *testGate) stop() error {
	if err := w.process.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-w.exited:
		w.process = nil
		if err != nil {
			return fmt.Errorf("the gate ended: %w\n%s", err, w.log.Bytes())
		}
	case <-time.After(patience):
		return errors.New("the gate does not stop")
	}
	for name, token := range w.tokens {
		for _, part := range strings.Split(token, ".") {
			if len(part) > 20 && bytes.Contains(w.log.Bytes(), []byte(part)) {
				return fmt.Errorf("the log holds a part of the token %s", name)
			}
		}
	}
	return checkLogSchema(w.log.Bytes())
}

// mint makes a token: NAME CERT CLIENT and edits.
func (w *testGate) mint(args []string) error {
	pair, ok := w.pairs[args[1]]
	if !ok {
		return fmt.Errorf("there is no certificate %s", args[1])
	}
	signer, claims, header := w.signers["good"], testpki.M{}, testpki.M{}
	for _, edit := range args[3:] {
		edit = strings.ReplaceAll(strings.ReplaceAll(edit, "@thumbprint", pair.Thumbprint()), "@jkt", w.signers["dpop"].KeyThumbprint())
		key, value, _ := strings.Cut(edit, "=")
		into := map[string]any{"claims": &claims, "header": &header}[key]
		if key == "key" {
			signer = w.signers[value]
		} else if err := json.Unmarshal([]byte(value), into); err != nil {
			return fmt.Errorf("reading %s: %w", edit, err)
		}
	}
	w.tokens[args[0]] = signer.Token(testpki.Bound("https://as.example.test", "https://api.example.test", args[2], pair, claims), header)
	return nil
}

// client returns TLS settings with the named certificate, which is sent even if the gate does not
// list its issuer; "" sends none.
func (w *testGate) client(cert string, protocols ...string) *tls.Config {
	roots := testpki.Pool(w.pairs["gate"])
	settings := &tls.Config{RootCAs: roots, ServerName: "api.example.test", NextProtos: protocols}
	if cert != "" {
		pair := w.pairs[cert].TLS()
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return settings
}

// call sends a request and stores the response.
func (w *testGate) call(args []string) error {
	w.answer, w.body, w.verbatim = nil, nil, false
	w.upstream.forget()
	flags := flag.NewFlagSet("call", flag.ContinueOnError)
	cert, token := flags.String("cert", "", ""), flags.String("token", "", "")
	host, listener := flags.String("host", "api.example.test", ""), flags.String("to", "partners", "")
	h2, size, chunked := flags.Bool("h2", false, ""), flags.Int("body", 0, ""), flags.Bool("chunked", false, "")
	form, until := flags.String("form", "", ""), flags.Int("until", 0, "")
	sni := flags.String("sni", "api.example.test", "")
	scheme, proof, by := flags.String("scheme", "Bearer", ""), flags.String("proof", "", ""), flags.String("by", "dpop", "")
	var headers []string
	flags.Func("H", "", func(s string) error { headers = append(headers, s); return nil })
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := http.NewRequest(flags.Arg(0), "https://"+w.addresses[*listener]+flags.Arg(1), nil)
	if err != nil {
		return err
	}
	r.Host = *host
	if *size > 0 {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", *size))), int64(*size)
		if *chunked {
			r.ContentLength = -1
		}
	}
	if *form != "" {
		text := w.expand(*form)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if *token != "" {
		r.Header.Set("Authorization", *scheme+" "+w.tokens[*token])
	}
	switch *proof {
	case "":
	case "again":
		r.Header.Set("DPoP", w.proof)
	default:
		claims := testpki.ProofClaims(r.Method, "https://"+*host+r.URL.EscapedPath(), w.tokens[*token])
		if err := json.Unmarshal([]byte(strings.ReplaceAll(*proof, "@nonce", w.nonce)), &claims); err != nil {
			return fmt.Errorf("reading %s: %w", *proof, err)
		}
		w.proof = w.signers[*by].Proof(claims)
		r.Header.Set("DPoP", w.proof)
	}
	for _, header := range headers {
		if header == "@long" {
			header = w.long
		}
		name, value, _ := strings.Cut(header, ":")
		r.Header[name] = append(r.Header[name], strings.TrimSpace(value)) // as spelled
	}
	settings := w.client(*cert)
	if *sni != settings.ServerName { // the gate's certificate may be for other names
		settings.ServerName, settings.InsecureSkipVerify = *sni, true
	}
	transport := &http.Transport{TLSClientConfig: settings, DisableCompression: true, ForceAttemptHTTP2: *h2}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range 10_000 {
		one := r.Clone(ctx)
		for _, values := range one.Header {
			for v := range values {
				values[v] = strings.ReplaceAll(values[v], "#", strconv.Itoa(i))
			}
		}
		answer, err := transport.RoundTrip(one) //nolint:bodyclose // keep closes it
		if err == nil {
			err = w.keep(answer)
		}
		if err != nil || *until == 0 || *until == answer.StatusCode {
			return err
		}
	}
	return fmt.Errorf("none of 10,000 answers has status %d", *until)
}

// raw sends bytes unchanged and stores the first response; dump prints the others too.
func (w *testGate) raw(text string, args []string) error {
	w.answer, w.body, w.verbatim = nil, nil, true
	w.upstream.forget()
	flags := flag.NewFlagSet("raw", flag.ContinueOnError)
	cert := flags.String("cert", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if w.open {
		text = strings.ReplaceAll(text, "\nConnection: close\n", "\n")
	}
	text = strings.ReplaceAll(w.expand(text), "\n", "\r\n")
	conn, err := tls.Dial("tcp", w.addresses["partners"], w.client(*cert, "http/1.1"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	// Every script asks for the connection to be closed, or breaks it, unless it is to be open.
	received, err := io.ReadAll(w.patient(conn))
	if err != nil && len(received) == 0 {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(received)), nil) //nolint:bodyclose // keep closes it
	if err != nil {
		return fmt.Errorf("reading the answer %q: %w", received, err)
	}
	err = w.keep(answer)
	w.body = received
	return err
}

// patient returns a reader of conn to its end. If the connection stays open, the reader ends half a
// second after the last bytes.
func (w *testGate) patient(conn net.Conn) io.Reader {
	if !w.open {
		return conn
	}
	return &untilQuiet{conn}
}

type untilQuiet struct{ net.Conn }

func (u *untilQuiet) Read(p []byte) (int, error) {
	n, err := u.Conn.Read(p)
	_ = u.SetReadDeadline(time.Now().Add(time.Second / 2))
	return n, err
}

// expand replaces $NAME by the named token.
func (w *testGate) expand(text string) string {
	return regexp.MustCompile(`\$\w+`).ReplaceAllStringFunc(text, func(name string) string { return w.tokens[name[1:]] })
}

func (w *testGate) keep(answer *http.Response) error {
	defer func() { _ = answer.Body.Close() }()
	var err error
	w.answer = answer
	if nonce := answer.Header.Get("DPoP-Nonce"); nonce != "" {
		w.nonce = nonce
	}
	w.body, err = io.ReadAll(answer.Body)
	return err
}

// dump returns the last response with its status line.
func (w *testGate) dump() []byte {
	if w.answer == nil {
		return nil
	}
	var b bytes.Buffer
	if !w.verbatim {
		fmt.Fprintf(&b, "%s %s\n", w.answer.Proto, w.answer.Status)
		if w.answer.Close { // net/http removes Connection from the header
			b.WriteString("Connection: close\n")
		}
		_ = w.answer.Header.Write(&b)
		_ = w.answer.Trailer.Write(&b)
		b.WriteString("\n")
	}
	b.Write(w.body)
	return bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n"))
}

// refused checks all parts of a refusal: status, body, challenge, no request at the upstream, one
// log line, one count.
func (w *testGate) refused(status int, reason, code string) error {
	if w.answer == nil || w.answer.StatusCode != status {
		return fmt.Errorf("want status %d, got\n%s", status, w.dump())
	}
	id := w.answer.Header.Get("X-Request-Id")
	if id == "" || w.answer.Header.Get("Cache-Control") != "no-store" {
		return fmt.Errorf("the answer lacks its request id or may be cached\n%s", w.dump())
	}
	if len(w.body) > 0 { // HEAD has no body
		if err := explains(w.body, reason, code, id); err != nil {
			return fmt.Errorf("%w\n%s", err, w.dump())
		}
	}
	if err := challenges(w.answer.Header["Www-Authenticate"], status == 401 || code != "", code); err != nil {
		return err
	}
	if received, n := w.upstream.take(); n != 0 || len(received) != 0 {
		return fmt.Errorf("%d requests reached the upstream:\n%s", n, received)
	}
	w.refusals[reason]++
	return w.recorded(reason, id, status, w.refusals[reason])
}

// challenges checks that the values of WWW-Authenticate are challenges, if there must be any, and that
// the code is in at least one and no other code in any.
func challenges(values []string, want bool, code string) error {
	if (len(values) > 0) != want {
		return fmt.Errorf("the challenges are %q", values)
	}
	coded := 0
	for _, v := range values {
		scheme, rest, _ := strings.Cut(v, " ")
		if !strings.HasPrefix(rest, `realm="`) || !slices.Contains([]string{"Bearer", "DPoP", "mtls_pop"}, scheme) {
			return fmt.Errorf("the challenges are %q", values)
		}
		if (scheme == "DPoP") != strings.Contains(rest, ` algs="`) {
			return fmt.Errorf("the challenges are %q, want algs with DPoP alone", values)
		}
		switch {
		case code != "" && strings.Contains(rest, ` error="`+code+`"`):
			coded++
		case strings.Contains(rest, " error="):
			return fmt.Errorf("the challenges are %q, want the code %q", values, code)
		}
	}
	if (coded > 0) != (code != "") {
		return fmt.Errorf("the challenges are %q, want the code %q", values, code)
	}
	return nil
}

var errOtherReason = errors.New("the answer gives another, or lacks a member")

// explains checks the JSON of a refusal.
func explains(text []byte, reason, code, id string) error {
	if i := bytes.LastIndex(text, []byte("\n{")); i >= 0 { // the body of a raw answer
		text = text[i:]
	}
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Reason      string `json:"reason"`
		RequestID   string `json:"request_id"`
	}
	if err := json.Unmarshal(text, &body); err != nil || body.Reason != reason || body.Error == "" || body.Description == "" {
		return fmt.Errorf("want the reason %s: %w", reason, errors.Join(errOtherReason, err))
	}
	if code != "" && body.Error != code || body.RequestID != id {
		return fmt.Errorf("want the error %q and the request %s", code, id)
	}
	return nil
}

func (w *testGate) granted(status int) error {
	if w.answer == nil || w.answer.StatusCode != status {
		return fmt.Errorf("want status %d, got\n%s", status, w.dump())
	}
	if received, n := w.upstream.peek(); n != 1 {
		return fmt.Errorf("%d requests reached the upstream:\n%s", n, received)
	}
	return w.recorded("granted", w.answer.Header.Get("X-Request-Id"), status, -1)
}

// recorded waits for the log line and the count of a request, which follow the response.
func (w *testGate) recorded(reason, id string, status, count int) error {
	var last error
	gatetest.Within(patience, func() bool {
		last = w.recordedNow(reason, id, status, count)
		return last == nil
	})
	return last
}

func (w *testGate) recordedNow(reason, id string, status, count int) error {
	lines := slices.DeleteFunc(w.lines("request"), func(line map[string]any) bool { return line["request_id"] != id })
	if len(lines) != 1 || lines[0]["reason"] != reason || lines[0]["status"] != float64(status) {
		return fmt.Errorf("the log says of %s: %v", id, lines)
	}
	n, err := w.sum(`tallygate_decisions_total\{.*reason="` + reason + `"\}`)
	if err != nil {
		return err
	}
	if count >= 0 && n != float64(count) { // a grant is counted also when the upstream then fails
		return fmt.Errorf("%s is counted %v times, want %d", reason, n, count)
	}
	return nil
}

// reloaded waits until want reloads had the result.
func (w *testGate) reloaded(result string, want int) error {
	if err := w.expect(`tallygate_config_reloads_total{result="`+result+`"}`, float64(want)); err != nil {
		return fmt.Errorf("%w\n%s", err, w.log.Bytes())
	}
	return nil
}

// metric returns the value of a series.
func (w *testGate) metric(series string) (float64, error) {
	_, text, err := w.admin("/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("there is no series %s", series)
}

// sum returns the sum of all series that match the regular expression series, or 0 if none matches.
func (w *testGate) sum(series string) (sum float64, err error) {
	_, text, err := w.admin("/metrics")
	for _, m := range regexp.MustCompile(`(?m)^`+series+` (\S+)$`).FindAllSubmatch(text, -1) {
		v, parsed := strconv.ParseFloat(string(m[1]), 64)
		sum, err = sum+v, errors.Join(err, parsed)
	}
	return sum, err
}

// lines returns the log lines with the message.
func (w *testGate) lines(msg string) []map[string]any {
	var found []map[string]any
	for line := range bytes.Lines(w.log.Bytes()) {
		var fields map[string]any
		if json.Unmarshal(line, &fields) == nil && fields["msg"] == msg {
			found = append(found, fields)
		}
	}
	return found
}

func (w *testGate) admin(path string) (int, []byte, error) { return w.get("admin", path) }

// get requests a path from a listener for operators, by its name.
func (w *testGate) get(listener, path string) (int, []byte, error) {
	scraper := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answer, err := scraper.Get("http://" + w.addresses[listener] + path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}
