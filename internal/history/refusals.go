package history

import (
	"log/slog"
	"slices"
	"strings"
	"time"
)

// A Field is a member of a line of the log.
type Field struct{ Key, Value string }

// A Refusal stands for refusals of a partner that are of the same kind: the same reason, API, route,
// application and certificate. Fields is the line of the newest.
type Refusal struct {
	Partner     string
	Kind        Kind
	First, Last time.Time
	Times       int
	Fields      []Field
}

// A Kind has the fields that equal refusals have in common. They are kept as one Refusal.
type Kind struct {
	Reason, API, Route, ClientID, Thumbprint string
	// BoundToOther says that the refused token is bound to another certificate or key, as a stolen token is.
	// Refusals of other kinds do not push out such a refusal.
	BoundToOther bool
}

// FieldsOf returns the fields of a line of the log with the level warn.
func FieldsOf(at time.Time, message string, attributes []slog.Attr) []Field {
	fields := append(make([]Field, 0, 3+len(attributes)),
		Field{slog.TimeKey, at.UTC().Format(time.RFC3339Nano)}, Field{slog.LevelKey, slog.LevelWarn.String()}, Field{slog.MessageKey, message})
	for _, a := range attributes {
		fields = append(fields, Field{a.Key, a.Value.String()})
	}
	return fields
}

// Get returns the value of the field with that key, or "".
func (r *Refusal) Get(key string) string {
	for _, f := range r.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}

// Refuse adds a request that the log warns of, with the fields of its line. It copies fields. If the
// partner has refusalsPerPartner kinds, the new kind replaces the kind that was refused longest ago. If
// all partners together have maxRefusals kinds, the partner whose kind was added longest ago loses the
// kind that was refused longest ago. A kind with BoundToOther is replaced only if the partner has no kind
// without it.
func (h *History) Refuse(name string, kind Kind, at time.Time, fields []Field) {
	if p := h.find(name); p != nil && p.repeat(kind, at, fields) {
		return
	}
	h.adding.Lock()
	defer h.adding.Unlock()
	p := h.findOrAdd(name)
	if p.repeat(kind, at, fields) { // another goroutine has added the kind
		return
	}
	switch {
	case p.dropOldest(refusalsPerPartner):
	case h.refusals < maxRefusals:
		h.order[h.refusals] = p
		h.refusals++
	default:
		h.order[h.first].dropOldest(1)
		h.order[h.first] = p
		h.first = (h.first + 1) % maxRefusals
	}
	p.refuse(name, kind, at, fields)
}

// repeat counts a refusal of a kind that p already has. It returns false if p does not have the kind.
func (p *partner) repeat(kind Kind, at time.Time, fields []Field) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.refusals, func(r *Refusal) bool { return r.Kind == kind })
	if i < 0 {
		return false
	}
	r := p.refusals[i]
	// A snapshot may have the Refusal, so a new Refusal replaces it.
	again := &Refusal{Partner: r.Partner, Kind: r.Kind, First: r.First, Last: at, Times: r.Times + 1, Fields: cloneFields(fields)}
	p.refusals = append(slices.Delete(p.refusals, i, i+1), again)
	return true
}

func (p *partner) refuse(name string, kind Kind, at time.Time, fields []Field) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals = append(p.refusals, &Refusal{
		Partner: strings.Clone(name), Kind: cloneKind(kind), First: at, Last: at, Times: 1, Fields: cloneFields(fields),
	})
}

// dropOldest drops the oldest refusal of p, and returns true, if p has at least most refusals. It keeps
// refusals with BoundToOther if p has a refusal without it, so that a partner cannot hide the use of a stolen
// token behind refusals that it causes.
func (p *partner) dropOldest(most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.refusals) < most {
		return false
	}
	i := max(0, slices.IndexFunc(p.refusals, func(r *Refusal) bool { return !r.Kind.BoundToOther }))
	p.refusals = slices.Delete(p.refusals, i, i+1)
	return true
}

// cloneFields copies fields: a value may be a part of a larger text, such as the header of a request, which
// must not stay in memory.
func cloneFields(fields []Field) []Field {
	cloned := make([]Field, len(fields))
	for i, f := range fields {
		cloned[i] = Field{f.Key, strings.Clone(f.Value)}
	}
	return cloned
}

func cloneKind(k Kind) Kind {
	return Kind{strings.Clone(k.Reason), strings.Clone(k.API), strings.Clone(k.Route), strings.Clone(k.ClientID), strings.Clone(k.Thumbprint), k.BoundToOther}
}
