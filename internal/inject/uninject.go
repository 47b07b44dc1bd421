package inject

import (
	"errors"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// The label marks objects that inject has added.
const (
	managedBy      = "app.kubernetes.io/managed-by"
	managedByValue = "tallygate-inject"
)

// uninjectObject removes from o what inject added.
func (s *set) uninjectObject(o *object) {
	labels := stringMap(value(value(o.node, "metadata"), "labels"))
	if o.kind == "NetworkPolicy" && labels[managedBy] == managedByValue {
		s.drop(o)
		return
	}
	template := o.template()
	if template == nil {
		template = o.node
	}
	j, err := readJournal(template)
	s.check(o, err)
	if j == nil {
		return
	}
	o.say("the gate is removed")
	for _, step := range j.Undo {
		err := o.undo(template, step)
		if errors.Is(err, errGone) {
			o.say("warning: %s%s%s is gone, and was not restored", step.Remove, step.Restore, step.Rename)
			continue
		}
		s.check(o, err)
	}
	err = o.undo(template, step{Remove: join("", "metadata", "annotations", annotation), Keep: j.KeepAnnotations})
	s.check(o, err)
}

// drop removes an object that inject added.
func (s *set) drop(o *object) {
	o.say("removed")
	if o.list == nil {
		o.document.dropped = true
		return
	}
	for i, item := range o.list.Content {
		if item == o.node {
			s.check(o, removeItem(o, i))
			return
		}
	}
}

func removeItem(o *object, i int) error {
	if len(o.list.Content) == 1 && o.list.Style&yaml.FlowStyle == 0 {
		return yamledit.Fail(o.node, "the List would be empty without this object: remove the List")
	}
	return o.RemoveItem(o.list, i)
}
