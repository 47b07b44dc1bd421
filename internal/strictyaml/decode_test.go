package strictyaml

import (
	"encoding"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type server struct {
	Name     string        `yaml:"name"`
	Timeout  time.Duration `yaml:"timeout"`
	Retries  int           `yaml:"retries"`
	Debug    bool          `yaml:"debug"`
	Replicas []replica     `yaml:"replicas"`
	Parent   *word         `yaml:"parent"`
	URL      url.URL       `yaml:"url"` // a type of another package, parsed by Options.Text
}

// replica can be written as its zone, or as a mapping.
type replica struct {
	Zone   word `yaml:"zone"`
	Weight int  `yaml:"weight"`
}

func (r *replica) UnmarshalText(text []byte) error { return r.Zone.UnmarshalText(text) }

// word is text without spaces.
type word string

func (w *word) UnmarshalText(text []byte) error {
	for _, c := range text {
		if c == ' ' {
			return errors.New("expected one word")
		}
	}
	*w = word(text)
	return nil
}

type urlText url.URL

func (u *urlText) UnmarshalText(text []byte) error {
	return (*url.URL)(u).UnmarshalBinary(text)
}

var options = Options{
	File: "server.yaml",
	Defaults: func(v any) {
		if r, ok := v.(*replica); ok {
			*r = replica{Weight: 1}
		}
	},
	Text: func(v any) encoding.TextUnmarshaler {
		if u, ok := v.(*url.URL); ok {
			return (*urlText)(u)
		}
		return nil
	},
}

func TestDecode(t *testing.T) {
	got := server{Timeout: time.Minute, Debug: true}
	document, faults := Decode([]byte("name: 1.20\nretries: 3\ndebug: false\nreplicas: [a, {zone: b}, {zone: yes, weight: 2}]\nparent: ''\nurl: https://a.test/x\n"), &got, options)
	if faults != nil {
		t.Fatal(faults)
	}
	want := server{
		Name: "1.20", Timeout: time.Minute, Retries: 3,
		Replicas: []replica{{Zone: "a"}, {Zone: "b", Weight: 1}, {Zone: "yes", Weight: 2}},
		URL:      url.URL{Scheme: "https", Host: "a.test", Path: "/x"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Decode (-want +got):\n%s", diff)
	}
	for path, want := range map[string]string{"": "server.yaml:1:1", "retries": "server.yaml:2:10", "replicas[1].zone": "server.yaml:4:22", "timeout": "server.yaml:1:1"} {
		if got := document.Position(path).String(); got != want {
			t.Errorf("Position(%q) = %s, want %s", path, got, want)
		}
	}
	if !document.Has("replicas[2].weight") || document.Has("replicas[0].zone") || document.Has("timeout") {
		t.Error("Has = false for a value of the file, or true for another, want the opposite")
	}
	if document.Failed("name") || !document.Complete("") {
		t.Error("Failed = true or Complete = false after no faults, want the opposite")
	}
}

// All faults are reported together. Only the values that they belong to have failed.
func TestDecodeFaults(t *testing.T) {
	var got server
	document, faults := Decode([]byte("nmae: a\nretries: 010\nreplicas: [a b, {zone: b, weight: heavy}]\ndebug: yes\ntimeout: 30\n"), &got, options)
	want := `server.yaml:1:1: unknown key "nmae", did you mean "name"?
server.yaml:2:10: retries: expected a whole number, got "010"
server.yaml:3:12: replicas[0]: expected one word
server.yaml:3:35: replicas[1].weight: expected a whole number, got "heavy"
server.yaml:4:8: debug: expected true or false, got "yes"
server.yaml:5:10: timeout: expected a duration with its unit, such as 30s, got "30"`
	if diff := cmp.Diff(want, faults.Err().Error()); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	for path, failed := range map[string]bool{"name": true, "retries": true, "replicas": false, "replicas[0].zone": true, "replicas[1].zone": false, "url": false} {
		if got := document.Failed(path); got != failed {
			t.Errorf("Failed(%q) = %v, want %v", path, got, failed)
		}
	}
	if document.Complete("replicas") || document.Complete("") || !document.Complete("url") {
		t.Error("Complete = true with a failed value inside, or false without, want the opposite")
	}
}

// After a syntax error, and after too many aliases, every value has failed.
func TestDecodeNothing(t *testing.T) {
	var got server
	document, faults := Decode([]byte("name: [a\n"), &got, options)
	if len(faults) != 1 || !document.Failed("name") || document.Complete("url") {
		t.Errorf("Decode of a syntax error: got %v, Failed(name) %v, Complete(url) %v, want one fault, true, false",
			faults, document.Failed("name"), document.Complete("url"))
	}
}

func ExampleDecode() {
	var settings struct {
		Listen  string        `yaml:"listen"`
		Timeout time.Duration `yaml:"timeout"`
	}
	_, faults := Decode([]byte("listne: :8080\ntimeout: 5\n"), &settings, Options{File: "a.yaml"})
	fmt.Println(faults.Err())
	// Output:
	// a.yaml:1:1: unknown key "listne", did you mean "listen"?
	// a.yaml:2:10: timeout: expected a duration with its unit, such as 30s, got "5"
}
