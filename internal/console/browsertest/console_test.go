package browsertest

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A demo is the real binary with the traffic of its tour.
type demo struct {
	t                *testing.T
	dir              string
	console, partner string // addresses
}

// startDemo builds the binary, runs tallygate demo and waits for the end of the tour.
func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{t: t, dir: t.TempDir()}
	binary := filepath.Join(t.TempDir(), "tallygate")
	buildProgram(t, binary, "./cmd/tallygate")
	process := exec.Command(binary, "demo", "--dir", d.dir)
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGTERM)
		_ = process.Wait()
	})
	lines, printed := bufio.NewScanner(output), new(strings.Builder)
	for lines.Scan() && !strings.Contains(lines.Text(), "until you press Ctrl-C") {
		printed.WriteString(lines.Text() + "\n")
	}
	address := func(name, scheme string) string {
		found := regexp.MustCompile(name + ` +` + scheme + `://(\S+)`).FindStringSubmatch(printed.String())
		if found == nil {
			t.Fatalf("the demo prints no address of %s:\n%s", name, printed)
		}
		return found[1]
	}
	d.console, d.partner = address("console", "http"), address("gate", "https")
	go func() {
		for lines.Scan() { // the demo must not wait for a reader
		}
	}()
	return d
}

// buildProgram builds a package of the gate's module.
func buildProgram(t *testing.T, file, pkg string) {
	t.Helper()
	build := exec.Command("go", "build", "-o", file, pkg)
	build.Dir = "../../.."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, output)
	}
}

// call sends a request to the partners' listener.
func (d *demo) call(certificate *testpki.Pair, method, path string, headers ...string) {
	d.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate.TLS()}}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(d.t.Context(), method, "https://"+d.partner+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		d.t.Fatal(err)
	}
	_ = response.Body.Close()
}

const hostileSubject = `"><img src=x onerror=alert(1)><script>alert(2)</script>`

var pages = []string{
	"/", "/partners", "/partners?q=ledger", "/partner?name=northwind", "/partner?name=borealis", "/partner?name=unknown", "/partner?name=nobody",
	"/access", "/access?method=GET&path=/accounts/7", "/servers", "/revocations", "/configuration",
}

// TestConsole looks at every page of a real gate, which a partner with a hostile certificate has called and
// whose last reload has failed.
func TestConsole(t *testing.T) {
	needBrowser(t)
	d := startDemo(t)
	hostile := testpki.SelfSigned(hostileSubject)
	for range 3 {
		d.call(hostile, "GET", "/accounts/%3Cscript%3E", "Authorization", "Bearer x")
	}
	if _, err := tls.Dial("tcp", d.partner, &tls.Config{ServerName: "localhost"}); err == nil {
		t.Fatal("a client that does not trust the gate connects")
	}
	b := newBrowser(t, d.console)
	file := filepath.Join(d.dir, "tallygate.yaml")
	settings, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(settings, []byte("nonsense: <b>1</b>\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	gatetest.Eventually(t, "the overview says that the reload failed", func() bool {
		b.visit("/")
		return strings.Contains(eval[string](b, `document.body.innerText`), "The configuration was not reloaded")
	})
	for _, scheme := range []string{"light", "dark"} {
		b.look(scheme, 1280, 900)
		for _, path := range pages {
			b.visitStatus(path)
			b.expectNoOverflow(path)
			b.expectAccessible(path + " in " + scheme)
		}
	}
	b.look("light", 390, 844)
	for _, path := range pages {
		b.visitStatus(path)
		b.expectNoOverflow(path + " on a phone")
	}
	b.expectTexts(map[string][]string{
		"/":                        {"Critical", "borealis called accounts once in the last hour", "bound_to_other", "no known partner", "Failed TLS handshakes", "gate_certificate_not_trusted"},
		"/partner?name=borealis":   {"partner borealis showed a token of partner northwind", "Expected", "Came", "tallygate explain --config"},
		"/partner?name=northwind":  {"Tokens of this partner that others showed", "ledger.northwind.example", "accounts:read"},
		"/partner?name=unknown":    {`img src=x onerror=alert(1)`, "3 times", "TLS handshake at partners"},
		"/access?path=/accounts/7": {"2 applications may call it", "northwind-ledger", "borealis-sync"},
		"/configuration":           {"nonsense", "tallygate.yaml:", "default"},
	})
	b.expectKeyboard()
	b.expectRefresh()
	b.expectWithoutScript()
}

// visitStatus is visit for pages that may not be found, which Chromium logs as a failure.
func (b *browser) visitStatus(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate("http://"+b.host+path), chromedp.WaitReady("main"))
	b.mu.Lock()
	kept := b.problems[:0]
	for _, p := range b.problems {
		if !strings.Contains(path, "nobody") || !strings.Contains(p, "404") {
			kept = append(kept, p)
		}
	}
	b.problems = kept
	b.mu.Unlock()
	b.expectNoProblems(path)
}

func (b *browser) expectTexts(want map[string][]string) {
	b.t.Helper()
	for path, texts := range want {
		b.visit(path)
		body := eval[string](b, `document.querySelectorAll("details").forEach(d => d.open = true); document.body.innerText`)
		for _, text := range texts {
			if !strings.Contains(body, text) {
				b.t.Errorf("%s: lacks %q in\n%s", path, text, body)
			}
		}
	}
}

// expectKeyboard goes through the overview with the Tab key: each focused element is visible, and the skip link
// works.
func (b *browser) expectKeyboard() {
	b.t.Helper()
	b.visit("/")
	b.run(chromedp.KeyEvent(kb.Tab))
	if got := eval[string](b, `document.activeElement.textContent`); got != "Skip to the content" {
		b.t.Errorf("the first stop of the Tab key is %q, want the skip link", got)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	if got := eval[string](b, `document.activeElement.id`); got != "main" {
		b.t.Errorf("the skip link leads to %q, want main", got)
	}
	b.visit("/")
	stops := eval[int](b, `[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter(e => e.checkVisibility()).length`)
	for i := range stops {
		b.run(chromedp.KeyEvent(kb.Tab))
		if seen := eval[string](b, `(e => { const s = getComputedStyle(e), r = e.getBoundingClientRect();
			return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 && r.width > 0 && r.height > 0 ? "" : e.outerHTML })(document.activeElement)`); seen != "" {
			b.t.Errorf("stop %d of %d of the Tab key is not seen: %s", i+1, stops, seen)
		}
	}
}

// expectRefresh turns the refresh on: the page is loaded again, and the choice stays.
func (b *browser) expectRefresh() {
	b.t.Helper()
	b.visit("/")
	if got := eval[string](b, `document.querySelector(".refresh").getAttribute("aria-pressed")`); got != "false" {
		b.t.Errorf("the refresh is %q at first, want false", got)
	}
	b.run(chromedp.Click(".refresh"))
	b.visit("/partners")
	if got := eval[string](b, `document.querySelector(".refresh").getAttribute("aria-pressed")`); got != "true" {
		b.t.Errorf("the refresh is %q on the next page, want true", got)
	}
	b.run(chromedp.Click(".refresh"))
}

// expectWithoutScript reads the pages without JavaScript, and sends the form of the access page.
func (b *browser) expectWithoutScript() {
	b.t.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.run(chromedp.Navigate("http://"+b.host+"/access"), chromedp.SendKeys(`input[name=path]`, "/payments/7"+kb.Enter),
		chromedp.WaitVisible(`//code[contains(., "GET /payments/{id}")]`))
	answer, url := get(b, chromedp.Text("main")), get(b, chromedp.Location())
	if want := "1 application may call it"; !strings.Contains(answer, want) {
		b.t.Errorf("without JavaScript %s lacks %q:\n%s", url, want, answer)
	}
	if strings.Contains(answer, "Refresh every") {
		b.t.Error("without JavaScript there is the switch for the refresh, which does nothing")
	}
}
