package inject

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/strictyaml"
	"github.com/tallygate/tallygate/internal/yamledit"
)

// An object is one Kubernetes object: a document, or an item of a List.
type object struct {
	*document
	node            *yaml.Node
	list            *yaml.Node // the items of the List around the object, or nil
	kind, version   string
	name, namespace string
	report          []string // what was done; the first line goes behind the object's name

	// Set for an injected workload. The edits of its Services use these fields.
	labels  map[string]string // the labels of the pods; nil: not injected
	app     *yaml.Node        // the application's container
	appPort int
}

func newObject(d *document, n *yaml.Node) *object {
	o := &object{document: d, node: resolve(n)}
	o.kind, o.version = text(o.node, "kind"), text(o.node, "apiVersion")
	metadata := value(o.node, "metadata")
	o.name = cmp.Or(text(metadata, "name"), strings.TrimSuffix(text(metadata, "generateName"), "-"))
	o.namespace = text(metadata, "namespace")
	return o
}

func (o *object) group() string {
	group, _, found := strings.Cut(o.version, "/")
	if !found {
		return ""
	}
	return group
}

// An objectKey tells the objects of all files apart.
type objectKey struct{ file, kind, namespace, name string }

func (o *object) key() objectKey { return objectKey{o.file.name, o.kind, o.namespace, o.name} }

func (o *object) id() string {
	if o.kind == "" {
		return "document"
	}
	return o.kind + "/" + o.name
}

func (o *object) line(n *yaml.Node) int { return o.file.line(o.firstLine + n.Line) }

func (o *object) say(format string, args ...any) {
	o.report = append(o.report, fmt.Sprintf(format, args...))
}

// fault records a fault of o at the position of n.
func (s *set) fault(o *object, n *yaml.Node, format string, args ...any) {
	s.faults = append(s.faults, strictyaml.Fault{
		Position: strictyaml.Position{File: o.file.name, Line: o.line(n), Column: n.Column},
		Path:     o.id(), Message: fmt.Sprintf(format, args...),
	})
}

// check records the error of an edit of o.
func (s *set) check(o *object, err error) {
	if err != nil {
		s.failed(o.document, o.id(), err)
	}
}

// The paths of the pod templates of the kinds that inject knows, with the groups of the kinds.
var templates = map[string]struct{ group, path string }{
	"Deployment":  {"apps", "spec/template"},
	"StatefulSet": {"apps", "spec/template"},
	"DaemonSet":   {"apps", "spec/template"},
	"ReplicaSet":  {"apps", "spec/template"},
	"Job":         {"batch", "spec/template"},
	"CronJob":     {"batch", "spec/jobTemplate/spec/template"},
	"Pod":         {"", ""},
}

// template returns the pod template of a workload, nil for other objects.
func (o *object) template() *yaml.Node {
	known, ok := templates[o.kind]
	if !ok || known.group != o.group() {
		return nil
	}
	n := o.node
	if known.path != "" {
		for _, key := range strings.Split(known.path, "/") {
			n = value(n, key)
		}
	}
	return n
}

// looksLikeWorkload reports whether an object of an unknown kind has a pod template.
func (o *object) looksLikeWorkload() bool {
	return value(value(value(value(o.node, "spec"), "template"), "spec"), "containers") != nil
}

// resolve returns the value that an alias refers to, and any other node itself.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// value returns the value of key in the mapping m to be read, or nil.
func value(m *yaml.Node, key string) *yaml.Node {
	_, v := yamledit.Get(m, key)
	return resolve(v)
}

// text returns the scalar value of key in m, or "".
func text(m *yaml.Node, key string) string {
	if v := value(m, key); v != nil && v.Kind == yaml.ScalarNode && !yamledit.IsNull(v) {
		return v.Value
	}
	return ""
}

// isTrue reports whether key in m has a value other than false in YAML 1.1 or 1.2. kubectl reads YAML 1.1, where yes
// and on are true.
func isTrue(m *yaml.Node, key string) bool {
	return text(m, key) != "" && !slices.Contains([]string{"false", "no", "off", "n"}, strings.ToLower(text(m, key)))
}

// integer returns the number that text has as a YAML integer, which may be hexadecimal or octal.
func integer(text string) (int, bool) {
	n, err := strconv.ParseInt(text, 0, 32)
	return int(n), err == nil
}

// items returns the items of the list that key has in m.
func items(m *yaml.Node, key string) []*yaml.Node {
	v := value(m, key)
	if v == nil || v.Kind != yaml.SequenceNode {
		return nil
	}
	all := make([]*yaml.Node, len(v.Content))
	for i, item := range v.Content {
		all[i] = resolve(item)
	}
	return all
}

// stringMap returns the scalars of the mapping m by key.
func stringMap(m *yaml.Node) map[string]string {
	all := map[string]string{}
	if m == nil || m.Kind != yaml.MappingNode {
		return all
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		all[m.Content[i].Value] = resolve(m.Content[i+1]).Value
	}
	return all
}

// checkKeys records what can hide a key anywhere in o: duplicate keys, of which parsers disagree about the value
// that counts, merge keys, which add other keys, aliases as keys, and keys and values in Base64 (!!binary).
func (s *set) checkKeys(o *object, n *yaml.Node) (ok bool) {
	return s.checkBelow(o, n, map[*yaml.Node]bool{})
}

// checkBelow is checkKeys. It follows aliases, whose values may stand outside of o, and visits each node once.
func (s *set) checkBelow(o *object, n *yaml.Node, visited map[*yaml.Node]bool) (ok bool) {
	n = resolve(n)
	if visited[n] {
		return true
	}
	visited[n] = true
	ok = s.checkMapping(o, n)
	for _, inside := range n.Content {
		ok = s.checkBelow(o, inside, visited) && ok
	}
	return ok
}

// checkMapping is checkKeys without the values inside n.
func (s *set) checkMapping(o *object, n *yaml.Node) (ok bool) {
	before := len(s.faults)
	for _, inside := range n.Content {
		if inside = resolve(inside); inside.ShortTag() == "!!binary" { // would be compared as it stands here
			s.fault(o, inside, "a text in Base64 (!!binary): write the text out")
		}
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			s.checkKey(o, n.Content[i], seen)
		}
	}
	return len(s.faults) == before
}

// checkKey records a key that parsers could read as another. seen has the keys before it.
func (s *set) checkKey(o *object, key *yaml.Node, seen map[string]bool) {
	switch {
	case key.Kind != yaml.ScalarNode:
		s.fault(o, key, "a key that is no plain text: write the key out")
	case key.Value == "<<": // also in quotation marks behind "!", where some parsers merge
		s.fault(o, key, "merge keys (<<) are not supported: write the merged keys out")
	case seen[key.Value]:
		s.fault(o, key, "the key %q is there twice: remove one", key.Value)
	}
	seen[key.Value] = true
}
