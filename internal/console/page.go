package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	g "maragu.dev/gomponents"
)

//go:embed assets
var assetFiles embed.FS

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

	knowsRevocations bool // by a feed or as an issuer
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
		Loaded: v.moment(s.Loaded), Fault: s.Fault, Partners: len(s.Config.Partners.List), APIs: len(s.Config.APIs), knowsRevocations: s.Revocations != nil,
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

// A document is a page that can be written as HTML and as JSON.
type document interface {
	html() g.Node
}

// respond writes d as HTML, or as JSON if the query asks for it.
func respond(w http.ResponseWriter, r *http.Request, status int, d document) {
	contentType := "text/html; charset=utf-8"
	var b bytes.Buffer
	var err error
	if r.URL.Query().Get("format") == "json" {
		contentType = "application/json"
		encoder := json.NewEncoder(&b)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(d)
	} else {
		err = d.html().Render(&b)
	}
	if err != nil {
		http.Error(w, "The page could not be rendered.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
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
func assetURL(name string) string {
	text, _ := assetFiles.ReadFile("assets/" + name) // every caller names an embedded file
	sum := sha256.Sum256(text)
	return "/assets/" + name + "?" + hex.EncodeToString(sum[:4])
}
