package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/explain"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// templates escape values by context, so a value that a partner chose is always text, in HTML and in SVG.
// The function p makes characters visible that are not printable or change the direction of text.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"p": explain.Printable, "number": number, "asset": assetURL, "plural": plural,
	"tallied": func(column, by string, t table) headedTable { return headedTable{t, column, column + "s", by} },
	"refused": func(r refusal, open bool) foldedRefusal { return foldedRefusal{r, open} },
}).ParseFS(templateFiles, "templates/*.html"))

// A page has the data that all pages have in common.
type page struct {
	Title string `json:"-"`
	Nav   string `json:"-"` // the path of the entry in the navigation
	Query string `json:"-"` // the text in the search field
	At    time.Time
	Gate  gateState
}

// gateState is the state of the gate in the header of every page.
type gateState struct {
	State    string // ready, draining or not ready
	Unready  string `json:",omitempty"` // why the gate is not ready
	Version  string
	Started  moment
	Up       string `json:"-"`
	File     string
	Hash     string
	Loaded   moment
	Fault    string  `json:",omitempty"` // why the last reload failed
	FaultAt  *moment `json:",omitempty"`
	Partners int
	APIs     int
}

// A headedTable is a table with its headings.
type headedTable struct {
	table
	Column, Title, By string
}

// A foldedRefusal is a refusal, whose explanation is open or folded at first.
type foldedRefusal struct {
	Refusal refusal
	Open    bool
}

// A view is one request for a page.
type view struct {
	*console
	state *State
	now   time.Time
}

func (c *console) view() *view { return &view{c, c.State(), c.Now()} }

func (v *view) page(title, nav string) page {
	s := v.state
	g := gateState{
		State: "ready", Unready: s.Unready, Version: s.Version, Started: v.moment(s.Started), Up: distance(v.now.Sub(s.Started)), File: s.File, Hash: s.Hash,
		Loaded: v.moment(s.Loaded), Fault: s.Fault, Partners: len(s.Config.Partners.List), APIs: len(s.Config.APIs),
	}
	switch {
	case s.Draining:
		g.State = "draining"
	case s.Unready != "":
		g.State = "not ready"
	}
	if s.Fault != "" {
		at := v.moment(s.FaultAt)
		g.FaultAt = &at
	}
	return page{Title: title, Nav: nav, At: v.now.UTC(), Gate: g}
}

// A moment is a time with its distance from the present.
type moment struct {
	Time time.Time
	Ago  string `json:"-"` // "3 min ago", "in 12 days"; "never" for the zero time
}

func (v *view) moment(t time.Time) moment { return moment{t.UTC(), ago(v.now, t)} }

// Text returns the day and the time of day.
func (m moment) Text() string { return m.Time.Format("2006-01-02 15:04:05Z") }

// Day returns the day of the time.
func (m moment) Day() string { return m.Time.Format("2006-01-02") }

// Clock returns the time of day.
func (m moment) Clock() string { return m.Time.Format("15:04:05") }

// ISO returns the time for machines.
func (m moment) ISO() string { return m.Time.Format(time.RFC3339) }

// IsZero reports whether the time is zero.
func (m moment) IsZero() bool { return m.Time.IsZero() }

// render executes the template name with data, and writes the page only if the whole template succeeds.
func render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "The page could not be rendered.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// respond writes data as the template name, or as JSON if the query asks for it.
func respond(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	if r.URL.Query().Get("format") != "json" {
		render(w, status, name, data)
		return
	}
	text, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		http.Error(w, "The page could not be rendered.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

var assetTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// asset serves one of the files in the folder assets.
func asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	text, err := assetFiles.ReadFile("assets/" + name)
	contentType := assetTypes[name[max(0, strings.LastIndexByte(name, '.')):]]
	if err != nil || contentType == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(text)
}

// assetURL returns the URL of an asset. It changes with the content, so that a tab that was open before an
// update gets the new file.
func assetURL(name string) (string, error) {
	text, err := assetFiles.ReadFile("assets/" + name)
	sum := sha256.Sum256(text)
	return "/assets/" + name + "?" + hex.EncodeToString(sum[:4]), err
}
