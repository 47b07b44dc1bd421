package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const exampleFile = "../config.example.yaml"

// The example decodes, is valid, and mentions every field of the tree.
func TestExample(t *testing.T) {
	c := load(t, exampleFile)
	mentions(t, "", reflect.TypeFor[Config](), []*place{&c.source.root})
}

// mentions fails for every field of the type that none of places, where values of
// the type stand, has inside.
func mentions(t *testing.T, path string, of reflect.Type, places []*place) {
	t.Helper()
	switch {
	case isScalar(reflect.New(of).Interface()):
	case of.Kind() == reflect.Pointer:
		mentions(t, path, of.Elem(), places)
	case of.Kind() == reflect.Slice:
		mentions(t, path+"[]", of.Elem(), inside(places, ""))
	default:
		for f := range of.Fields() {
			key := f.Tag.Get("yaml")
			if key == "" && !f.IsExported() {
				continue
			}
			found := inside(places, key)
			if len(found) == 0 {
				t.Errorf("%s is not mentioned", child(path, key))
			}
			mentions(t, child(path, key), f.Type, found)
		}
	}
}

// inside returns what stands under key in places.
func inside(places []*place, key string) (found []*place) {
	for _, p := range places {
		for i := range p.inside {
			if p.inside[i].key == key {
				found = append(found, &p.inside[i])
			}
		}
	}
	return found
}

// Where the example says what the default is, it is.
func TestExampleDefaults(t *testing.T) {
	c, want := load(t, exampleFile), Default()
	var server AuthorizationServer
	setDefaults(&server)
	var api API
	setDefaults(&api)
	first := c.AuthorizationServers[0]
	c.IdentityHeaders.Certificate = ""
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"listener.address", c.Listener.Address, want.Listener.Address},
		{"listener.minimum_version", c.Listener.MinimumVersion, want.Listener.MinimumVersion},
		{"listener.limits", c.Listener.Limits, want.Listener.Limits},
		{"on_failure", c.Listener.ClientCertificates.OnFailure, want.Listener.ClientCertificates.OnFailure},
		{"algorithms", first.Algorithms, server.Algorithms},
		{"types", first.Types, server.Types},
		{"leeway", first.Leeway, server.Leeway},
		{"refresh", first.KeySet.Refresh, server.KeySet.Refresh},
		{"cool_down", first.KeySet.CoolDown, server.KeySet.CoolDown},
		{"max_stale", first.KeySet.MaxStale, server.KeySet.MaxStale},
		{"cache", first.Cache, server.Cache},
		{"timeout", c.APIs[0].Upstream.Timeout, api.Upstream.Timeout},
		{"identity_headers", c.IdentityHeaders, want.IdentityHeaders},
		{"admin", c.Admin, want.Admin},
		{"log", c.Log, want.Log},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-default +example):\n%s", tt.name, diff)
		}
	}
}

// Every exported field of the tree has a key of lower-case words, and they come
// before the others, as the decoder counts on.
func TestKeys(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		switch {
		case isScalar(reflect.New(of).Interface()):
		case of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice:
			walk(of.Elem())
		default:
			others := false
			for f := range of.Fields() {
				key := f.Tag.Get("yaml")
				if f.IsExported() != (key != "") || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" {
					t.Errorf("%v.%s has the key %q", of, f.Name, key)
				}
				if others = others || key == ""; others && key != "" {
					t.Errorf("%v.%s comes after a field without key", of, f.Name)
				}
				if key != "" {
					walk(f.Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}
