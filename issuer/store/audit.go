package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.etcd.io/bbolt"

	"github.com/tallygate/tallygate/revocation"
)

const (
	// MaxReason and MaxActor bound the texts of an [AuditRecord] in bytes.
	MaxReason = 200
	MaxActor  = 300

	// AuditPage is the largest number of records that Audit returns.
	AuditPage = 1000

	// maxAudit bounds the records in a file, in which the newest are kept: 65,536 of up to 200 + 300 + 250 bytes take up
	// to 47 MiB, and twice as much in half-full pages. With the tokens and revocations they fit into the Helm chart's
	// volume of 1 GiB: 512 + 400 + 94 MiB.
	maxAudit = 1 << 16
)

// auditBucket has an auditRecord for each revocation with an actor, under its number in 8 bytes, big-endian.
var auditBucket = []byte("audit")

// An AuditRecord says who requested a revocation, and why. Revocation is the requested revocation. The stored
// revocation may be stronger, because of an earlier revocation of the same subject.
type AuditRecord struct {
	Revocation
	Number uint64    // in the order of the records
	Time   time.Time // when the revocation was stored
}

// CheckAudit returns an error unless the texts that r has for the audit are short enough, valid UTF-8 and without control
// characters.
func (r *Revocation) CheckAudit() error {
	for _, text := range []struct {
		name, value string
		limit       int
	}{{"actor", r.Actor, MaxActor}, {"reason", r.Reason, MaxReason}} {
		switch {
		case len(text.value) > text.limit:
			return fmt.Errorf("the %s has %d bytes, more than %d", text.name, len(text.value), text.limit)
		case !utf8.ValidString(text.value), strings.ContainsFunc(text.value, unicode.IsControl):
			return fmt.Errorf("the %s must be valid UTF-8 without control characters", text.name)
		}
	}
	if r.Actor == "" && r.Reason != "" {
		return errors.New("a reason needs an actor")
	}
	return nil
}

// A storedAudit is the JSON form of an AuditRecord.
type storedAudit struct {
	Time     time.Time
	Kind     revocation.Kind
	Subject  []byte    // may be binary
	IssuedBy time.Time `json:",omitzero"`
	Until    time.Time `json:",omitzero"`
	Actor    string
	Reason   string `json:",omitempty"`
}

func auditKey(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// addAudit writes the record of r, and removes the record that is beyond the limit.
func (f *File) addAudit(tx *bbolt.Tx, r *Revocation) error {
	bucket, err := tx.CreateBucketIfNotExists(auditBucket) // files of earlier versions do not have the bucket
	if err != nil {
		return abort(err)
	}
	number, err := bucket.NextSequence()
	if err != nil {
		return abort(err)
	}
	record, err := json.Marshal(storedAudit{time.Now().UTC().Truncate(time.Microsecond), r.Kind, []byte(r.Subject), r.IssuedBy, r.Until, r.Actor, r.Reason})
	if err != nil {
		return abort(err)
	}
	if number > f.maxAudit {
		if err := bucket.Delete(auditKey(number - f.maxAudit)); err != nil {
			return abort(err)
		}
	}
	return abort(bucket.Put(auditKey(number), record))
}

// Audit returns up to limit records whose numbers are below before, newest first; before = 0 means from the newest. A
// limit above [AuditPage] counts as AuditPage.
func (f *File) Audit(before uint64, limit int) (page []AuditRecord, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(auditBucket)
		if bucket == nil {
			return nil
		}
		c := bucket.Cursor()
		key, value := c.Last()
		if before > 0 {
			if key, _ = c.Seek(auditKey(before)); key != nil {
				key, value = c.Prev()
			} else {
				key, value = c.Last()
			}
		}
		for ; key != nil && len(page) < min(limit, AuditPage); key, value = c.Prev() {
			var s storedAudit
			if json.Unmarshal(value, &s) != nil || len(key) != 8 {
				return fmt.Errorf("reading a stored audit record: %w", errCorrupt)
			}
			page = append(page, AuditRecord{
				Revocation: Revocation{Kind: s.Kind, Subject: string(s.Subject), IssuedBy: s.IssuedBy, Until: s.Until, Actor: s.Actor, Reason: s.Reason},
				Number:     binary.BigEndian.Uint64(key), Time: s.Time,
			})
		}
		return nil
	})
	return page, err
}
