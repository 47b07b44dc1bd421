package inject

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// The annotations of inject. The first annotation marks an object that inject has changed, and has the steps
// that restore the object.
const (
	annotation          = "tallygate.dev/injected"
	annotationInject    = "tallygate.dev/inject"
	annotationPort      = "tallygate.dev/app-port"
	annotationContainer = "tallygate.dev/app-container"
)

// A journal is the value of the annotation [annotation].
type journal struct {
	Version int `json:"version"`
	// KeepAnnotations: the field annotations existed before inject, perhaps empty.
	KeepAnnotations bool   `json:"keepAnnotations,omitzero"`
	Undo            []step `json:"undo"`
}

// A step restores one node. Exactly one of Remove, Restore and Rename has a path below the annotated
// template or object. Path segments are separated by slashes; the segment of a list's item is the item's
// name, its value, or # and its index.
type step struct {
	Remove  string `json:"remove,omitzero"`
	Keep    bool   `json:"keep,omitzero"` // Remove leaves the brackets of an empty list or mapping, which were there before
	Restore string `json:"restore,omitzero"`
	Rename  string `json:"rename,omitzero"`
	Text    string `json:"text,omitzero"` // the text to restore, or the former key
}

var escapePath = strings.NewReplacer("~", "~0", "/", "~1")
var unescapePath = strings.NewReplacer("~1", "/", "~0", "~")

func join(path string, segments ...string) string {
	for _, s := range segments {
		path += "/" + escapePath.Replace(s)
	}
	return path
}

// A place is a node on a path: below its parent, with the index of the key or item in parent.Content.
type place struct {
	parent *yaml.Node
	index  int
}

func (p place) value() *yaml.Node {
	if p.parent.Kind == yaml.MappingNode {
		return p.parent.Content[p.index+1]
	}
	return p.parent.Content[p.index]
}

// follow returns the places along path below n, or nil if the path leads nowhere.
func follow(n *yaml.Node, path string) []place {
	var places []place
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		i := find(n, unescapePath.Replace(segment))
		if i < 0 {
			return nil
		}
		places = append(places, place{n, i})
		n = places[len(places)-1].value()
	}
	return places
}

// find returns the index in n.Content of a path segment: of a key, or of the item with this index, or
// else of the last item with this name or value. It returns -1 if n has no such key or item.
func find(n *yaml.Node, name string) int {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return i
			}
		}
		return -1
	}
	if i, err := strconv.Atoi(strings.TrimPrefix(name, "#")); err == nil && name[0] == '#' && i >= 0 && i < len(n.Content) {
		return i
	}
	for i, item := range slices.Backward(n.Content) {
		if item.Kind == yaml.MappingNode && text(item, "name") == name || item.Kind == yaml.ScalarNode && item.Value == name {
			return i
		}
	}
	return -1
}

// write adds the journal to the annotations of n, a pod template or object.
func (j *journal) write(o *object, n *yaml.Node) error {
	j.Version = 1
	metadata, annotations := value(n, "metadata"), value(value(n, "metadata"), "annotations")
	j.KeepAnnotations = annotations != nil
	marshaled, err := json.Marshal(j)
	if err != nil {
		return yamledit.Fail(n, "%v", err)
	}
	content := yamledit.Scalar(string(marshaled))
	content.Style = yaml.SingleQuotedStyle
	mapping := func(key string, v *yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{yamledit.Scalar(key), v}}
	}
	switch {
	case metadata == nil:
		return o.Add(n, "metadata", mapping("annotations", mapping(annotation, content)))
	case annotations == nil:
		_, raw := yamledit.Get(n, "metadata")
		return o.Add(raw, "annotations", mapping(annotation, content))
	}
	_, raw := yamledit.Get(metadata, "annotations")
	return o.Add(raw, annotation, content)
}

// readJournal returns the journal of n, nil if n has none.
func readJournal(n *yaml.Node) (*journal, error) {
	_, content := yamledit.Get(value(value(n, "metadata"), "annotations"), annotation)
	if content == nil {
		return nil, nil
	}
	var j journal
	if err := json.Unmarshal([]byte(content.Value), &j); err != nil || j.Version != 1 {
		return nil, yamledit.Fail(content, "the annotation %s is not what inject of this version writes: remove the gate by the version that added it, or by hand", annotation)
	}
	return &j, nil
}

// stillInjected reports whether n has a journal after uninject, which means that uninject has recorded a fault.
func stillInjected(n *yaml.Node) bool {
	j, err := readJournal(n)
	return j != nil || err != nil
}

var errGone = errors.New("not found")

// undo takes one step of a journal below n.
func (o *object) undo(n *yaml.Node, s step) error {
	places := follow(n, s.Remove+s.Restore+s.Rename)
	if len(places) == 0 {
		return errGone
	}
	last := places[len(places)-1]
	switch {
	case s.Restore != "":
		return o.Replace(last.value(), s.Text)
	case s.Rename != "":
		if last.parent.Kind != yaml.MappingNode {
			return errGone
		}
		return o.Replace(last.parent.Content[last.index], s.Text)
	}
	// A list or mapping that would become empty is removed too.
	for len(places) > 1 && len(last.parent.Content) == last.size() && (!s.Keep || last.parent.Style&yaml.FlowStyle == 0) {
		places = places[:len(places)-1]
		last = places[len(places)-1]
	}
	if last.parent.Kind == yaml.MappingNode {
		return o.RemoveKey(last.parent, last.parent.Content[last.index].Value)
	}
	return o.RemoveItem(last.parent, last.index)
}

// size returns how many nodes a key with its value, or an item, has in parent.Content.
func (p place) size() int {
	if p.parent.Kind == yaml.MappingNode {
		return 2
	}
	return 1
}
