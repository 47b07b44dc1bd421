package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// A browser is a tab of a headless Chromium.
type browser struct {
	t    *testing.T
	ctx  context.Context
	axe  string // the source of axe-core
	host string // the only host that pages may send requests to

	mu       sync.Mutex
	problems []string
}

// needBrowser returns the path of Chromium and the source of axe-core. Without them it skips t, except in CI.
func needBrowser(t *testing.T) (program, axe string) {
	t.Helper()
	program, noProgram := exec.LookPath("chromium")
	source, noAxe := os.ReadFile(os.Getenv("TALLYGATE_AXE"))
	if err := errors.Join(noProgram, noAxe); err != nil {
		gatetest.SkipOutsideCI(t, fmt.Sprintf("make console runs this test: %v", err))
	}
	return program, string(source)
}

// newBrowser starts a browser for the pages at address.
func newBrowser(t *testing.T, address string) *browser {
	t.Helper()
	program, axe := needBrowser(t)
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(filepath.Join(t.TempDir(), "profile")),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("font-render-hinting", "none"), chromedp.Flag("disable-dev-shm-usage", true),
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	b := &browser{t: t, ctx: ctx, axe: axe, host: address}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	return b
}

// listen records faults of a page: errors, violations of its policy, and requests to another host.
func (b *browser) listen(event any) {
	problem := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		problem = fmt.Sprintf("console.%s", e.Type)
	case *log.EventEntryAdded:
		problem = e.Entry.Text
	case *page.EventJavascriptDialogOpening:
		problem = "a script opened a dialog: " + e.Message
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Host != b.host {
			problem = "a request to " + e.Request.URL
		}
	}
	if problem != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.problems = append(b.problems, problem)
	}
}

// actionTimeout bounds each action.
const actionTimeout = 30 * time.Second

// run runs actions. An error ends the test.
func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, actionTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// call runs a command of the browser.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// get runs an action that has a result.
func get[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, actionTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// look sets the color scheme, "light" or "dark", and the size of the window.
func (b *browser) look(scheme string, width, height int64) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.run(chromedp.EmulateViewport(width, height))
}

// visit opens a page and fails the test if listen has recorded a fault.
func (b *browser) visit(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate("http://"+b.host+path), chromedp.WaitReady("main"))
	b.expectNoProblems(path)
}

func (b *browser) expectNoProblems(path string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("%s: %s", path, p)
	}
	b.problems = nil
}

// eval evaluates an expression in the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	return get(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// expectAccessible runs all rules of axe-core on the page.
func (b *browser) expectAccessible(path string) {
	b.t.Helper()
	b.run(chromedp.Evaluate[chromedp.Void](b.axe))
	text := eval[string](b, `axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify({
		passes: r.passes.length, violations: r.violations.map(v => v.id + ": " + v.help + "\n" + v.nodes.map(n => "  " + n.html + "\n  " + n.failureSummary).join("\n"))}))`)
	var result struct {
		Passes     int
		Violations []string
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		b.t.Fatal(err)
	}
	if result.Passes < 20 {
		b.t.Errorf("%s: only %d rules of axe-core found something to check", path, result.Passes)
	}
	for _, v := range result.Violations {
		b.t.Errorf("%s: axe-core: %s", path, v)
	}
}

// expectNoOverflow fails the test if the page is wider than the window.
func (b *browser) expectNoOverflow(path string) {
	b.t.Helper()
	if wide := eval[[]string](b, `[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, .hidden") && e.getBoundingClientRect().right > innerWidth + 1)
		.map(e => e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 40))`); len(wide) > 0 {
		b.t.Errorf("%s: wider than the window: %s", path, strings.Join(wide, "; "))
	}
}

// picture returns a PNG of the page, as wide as the window and at most height high.
func (b *browser) picture(height int64) []byte {
	b.t.Helper()
	full := eval[int64](b, `Math.ceil(document.documentElement.scrollHeight)`)
	width := eval[int64](b, `innerWidth`)
	b.run(chromedp.EmulateViewport(width, min(full, height)))
	return get(b, chromedp.CaptureScreenshot())
}
