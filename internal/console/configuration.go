package console

import (
	"encoding"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// A configurationPage shows the settings in use, with the position of each setting that the file has.
type configurationPage struct {
	page
	Settings []setting
	Pager    pager `json:"-"`
}

// A setting is a value of the configuration.
type setting struct {
	Path     string // as in faults of the configuration
	Value    string
	Position string // empty for a default
}

const settingsOnPage = 400

func (c *console) configuration(w http.ResponseWriter, r *http.Request) {
	v := c.view()
	all := v.settings()
	p := configurationPage{page: v.page("Configuration", "/configuration")}
	var from, to int
	p.Pager, from, to = newPager(r.URL, "page", len(all), settingsOnPage)
	p.Settings = all[from:to]
	respond(w, r, http.StatusOK, p)
}

// position returns the position of a setting in the configuration file, without the folder.
func (v *view) position(path string, indexes ...any) string {
	at := v.state.Config.Position(fmt.Sprintf(path, indexes...))
	if at.Line == 0 {
		return ""
	}
	return filepath.Base(at.String())
}

// settings returns the settings in the order of the configuration. Partners have pages of their own.
func (v *view) settings() []setting {
	w := &walker{view: v}
	w.walk(reflect.ValueOf(v.state.Config).Elem(), "")
	return w.found
}

// A walker collects settings.
type walker struct {
	*view
	found []setting
}

func (w *walker) walk(value reflect.Value, path string) {
	if path == "partners.list" {
		w.add(path, plural(value.Len(), "partner"))
		return
	}
	if text, ok := textOf(value); ok {
		w.add(path, hide(path, text))
		return
	}
	switch value.Kind() { //nolint:exhaustive // the other kinds are texts
	case reflect.Pointer:
		if !value.IsNil() {
			w.walk(value.Elem(), path)
		}
	case reflect.Slice:
		w.walkList(value, path)
	case reflect.Struct:
		for i := range value.NumField() {
			field := value.Type().Field(i)
			if key := field.Tag.Get("yaml"); field.IsExported() && key != "" {
				w.walk(value.Field(i), strings.TrimPrefix(path+"."+key, "."))
			}
		}
	}
}

// walkList adds a list of texts as one setting. It adds each element of any other list as a setting.
func (w *walker) walkList(value reflect.Value, path string) {
	var all []string
	for i := range value.Len() {
		text, ok := textOf(value.Index(i))
		if !ok {
			w.walk(value.Index(i), fmt.Sprintf("%s[%d]", path, i))
			continue
		}
		all = append(all, text)
	}
	if len(all) > 0 {
		w.add(path, hide(path, strings.Join(all, ", ")))
	}
}

func (w *walker) add(path, value string) {
	if value == "" {
		return
	}
	s := setting{Path: path, Value: value}
	parent := path[:max(0, strings.LastIndexAny(path, ".["))]
	// Position returns the position of the parent for a setting that the file does not have.
	if at := w.state.Config.Position(path); at.Line > 0 && (parent == "" || at != w.state.Config.Position(parent)) {
		s.Position = filepath.Base(at.String())
	}
	w.found = append(w.found, s)
}

// textOf returns the text of a value that is not a group of settings. A URL loses its query.
func textOf(value reflect.Value) (string, bool) {
	switch {
	case value.Kind() == reflect.Pointer: // walk visits the element of the pointer
		return "", false
	case value.Kind() == reflect.Struct && value.IsZero(): // String would say that it is invalid
		_, isText := value.Interface().(fmt.Stringer)
		return "", isText
	}
	switch v := value.Interface().(type) {
	case config.URL:
		return withoutQuery(&v.URL), true
	case config.UpstreamURL:
		return withoutQuery(&v.URL), true
	case fmt.Stringer:
		return v.String(), true
	case encoding.TextMarshaler:
		if text, err := v.MarshalText(); err == nil {
			return string(text), true
		}
	}
	switch value.Kind() { //nolint:exhaustive // the other kinds are groups of settings
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint8, reflect.Uint64, reflect.Float64:
		return fmt.Sprint(value.Interface()), true
	}
	return "", false
}

// hide returns value unless a setting at path could hold a secret. The settings name files with secrets;
// a key set in the configuration should be public, and an operator may have pasted a private key.
func hide(path, value string) string {
	switch key := path[strings.LastIndexByte(path, '.')+1:]; key {
	case "jwks", "secret", "password", "token":
		return plural(len(value), "byte") + ", not shown"
	}
	return value
}

// withoutQuery returns u without user and query, which may have secrets.
func withoutQuery(u *url.URL) string {
	bare := *u
	if bare.User = nil; bare.RawQuery != "" {
		bare.RawQuery = "…"
	}
	bare.Fragment, bare.RawFragment = "", ""
	return strings.Replace(bare.String(), "%E2%80%A6", "…", 1)
}
