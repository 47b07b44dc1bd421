package issuer

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

const (
	// MaxListed is the largest number of records in a [RevocationList].
	MaxListed = 1000

	// maxScanned bounds the records that one request reads, because a filter may skip all of them.
	maxScanned = 10 * store.AuditPage

	// listWait bounds how long a request waits for a new record. It is below the write timeout of the operator's socket.
	listWait = 8 * time.Second
	// listPoll is the time between two readings while a request waits.
	listPoll = 500 * time.Millisecond
)

// RevocationKinds returns the kinds of revocations that a [RevocationQuery] may ask for.
func RevocationKinds() []string {
	var kinds []string
	for _, kind := range revocation.Kinds() {
		kinds = append(kinds, kind.String())
	}
	return kinds
}

// A RevocationQuery has the parameters of GET /revocations.
type RevocationQuery struct {
	Kind   string // "" means every kind
	Limit  int    // 1 to MaxListed
	Before uint64 // lists records with smaller numbers; 0 means from the newest
	After  uint64 // lists records with greater numbers
	Wait   bool   // waits some seconds for a record with a greater number than After
}

// Values returns q as the query of a URL.
func (q RevocationQuery) Values() url.Values {
	values := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	if q.Kind != "" {
		values.Set("kind", q.Kind)
	}
	if q.Before > 0 {
		values.Set("before", strconv.FormatUint(q.Before, 10))
	}
	if q.After > 0 {
		values.Set("after", strconv.FormatUint(q.After, 10))
	}
	if q.Wait {
		values.Set("wait", "true")
	}
	return values
}

var errQuery = &mistake{errors.New("want a query of limit, kind, before, after and wait, each once at most"), malformedOperation}

// parseRevocationQuery is the inverse of Values.
func parseRevocationQuery(raw string) (q RevocationQuery, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, errQuery
	}
	q.Limit = MaxListed
	for name, all := range values {
		value := all[0]
		switch name {
		case "limit":
			q.Limit, err = strconv.Atoi(value)
		case "before":
			q.Before, err = strconv.ParseUint(value, 10, 64)
		case "after":
			q.After, err = strconv.ParseUint(value, 10, 64)
		case "wait":
			q.Wait, err = strconv.ParseBool(value)
		case "kind":
			if q.Kind = value; !slices.Contains(RevocationKinds(), value) {
				err = errQuery
			}
		default:
			err = errQuery
		}
		if err != nil || len(all) > 1 {
			return q, errQuery
		}
	}
	if q.Limit < 1 || q.Limit > MaxListed {
		return q, errQuery
	}
	return q, nil
}

// A RevocationList is the answer to GET /revocations.
type RevocationList struct {
	Revocations []RevocationRecord `json:"revocations"` // newest first
	// Next is the Before of a query for older records; 0 means that there are no older records.
	Next   uint64 `json:"next,omitempty"`
	Newest uint64 `json:"newest"` // the number of the newest record of any kind; 0 means that there is no record
	// InForce has the number of revocations in force by kind, with the revocations that clients requested themselves.
	InForce map[string]int `json:"in_force"`
}

// A RevocationRecord is the audit record of a revocation that an operator requested.
type RevocationRecord struct {
	Number   uint64    `json:"number"`
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"`
	Subject  string    `json:"subject"` // a token: its jti_hash, as in the log
	Actor    string    `json:"actor"`
	Reason   string    `json:"reason,omitempty"`
	IssuedBy time.Time `json:"issued_by,omitzero"` // the tokens that were issued until this time are revoked
	Until    time.Time `json:"until,omitzero"`     // the tokens have expired by this time; zero means never
}

func newRevocationRecord(r *store.AuditRecord) RevocationRecord {
	subject := r.Subject
	switch r.Kind { //nolint:exhaustive // the subjects that are not text
	case revocation.Token, revocation.ForeignToken:
		subject = hex.EncodeToString([]byte(subject[:min(len(subject), 8)])) // as tokenIDHash
	case revocation.ForeignSubject:
		subject = strings.ReplaceAll(subject, "\x00", " ")
	}
	return RevocationRecord{r.Number, r.Time, r.Kind.String(), subject, r.Actor, r.Reason, r.IssuedBy, r.Until}
}

// Revocations returns the audit records that q asks for. With q.Wait it waits until there is a record, for some
// seconds at most. The error is a refusal: the state cannot be read now.
func (i *Issuer) Revocations(ctx context.Context, q RevocationQuery) (RevocationList, error) {
	if q.Wait {
		if err := i.awaitRecord(ctx, q.After); err != nil {
			return RevocationList{}, err
		}
	}
	list := RevocationList{Revocations: []RevocationRecord{}, InForce: make(map[string]int)}
	for _, kind := range revocation.Kinds() {
		list.InForce[kind.String()] = i.revocations.set.Len(kind)
	}
	var err error
	if list.Newest, err = i.newestRecord(); err != nil {
		return RevocationList{}, err
	}
	before, size := q.Before, store.AuditPage
	if q.Kind == "" {
		size = min(q.Limit+1, size) // one record more than Limit shows whether there are older records
	}
	for scanned := 0; ; {
		page, err := i.state.Audit(before, size)
		if err != nil {
			return RevocationList{}, storeRefusal(err)
		}
		for n := range page {
			r := &page[n]
			switch {
			case r.Number <= q.After:
				return list, nil
			case len(list.Revocations) == q.Limit, scanned == maxScanned:
				list.Next = before
				return list, nil
			}
			before, scanned = r.Number, scanned+1
			if q.Kind == "" || q.Kind == r.Kind.String() {
				list.Revocations = append(list.Revocations, newRevocationRecord(r))
			}
		}
		if len(page) < size {
			return list, nil
		}
	}
}

func (i *Issuer) newestRecord() (uint64, error) {
	page, err := i.state.Audit(0, 1)
	if err != nil {
		return 0, storeRefusal(err)
	}
	if len(page) == 0 {
		return 0, nil
	}
	return page[0].Number, nil
}

// awaitRecord returns when there is a record with a greater number than after, when some seconds are over, or when ctx
// ends.
func (i *Issuer) awaitRecord(ctx context.Context, after uint64) error {
	ctx, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	for {
		newest, err := i.newestRecord()
		if err != nil || newest != after { // a smaller number: the caller has asked another state before
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listPoll):
		}
	}
}

// serveRevocations serves GET /revocations on the operator's socket.
func (i *Issuer) serveRevocations(w http.ResponseWriter, r *http.Request) {
	writeResult(w, func() (RevocationList, error) {
		q, err := parseRevocationQuery(r.URL.RawQuery)
		if err != nil {
			return RevocationList{}, err
		}
		return i.Revocations(r.Context(), q)
	})
}
