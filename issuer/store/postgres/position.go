package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// A position is how far Follow has read. Its zero value is the beginning of any log.
type position struct {
	revocation.Position
	seq    uint64    // number of the last revocation that was read, which may be below Seq
	stored time.Time // when that revocation was stored
}

// take moves p to the end of page.
func (p *position) take(page *store.Page) {
	p.Position = revocation.Position{Epoch: page.Epoch, Seq: page.Seq}
	if n := len(page.Additions); n > 0 {
		p.seq, p.stored = page.Additions[n-1].Seq, page.Additions[n-1].Stored
	}
}

// continues reports whether page, which was read behind p, belongs to the log of p. A restored copy of the database with
// the same epoch uses numbers again: either the copy ends before p, or the number of the last revocation that was read
// belongs to another revocation, unless the first revocation has been extended or has expired meanwhile.
func (p *position) continues(page *reading) bool {
	return p.Epoch == "" || page.Epoch == p.Epoch && page.Seq >= p.Seq && (page.last == nil || page.last.Equal(p.stored))
}

// errRestored means that the log is not the continuation of the log that was read. It is read again from its beginning.
var errRestored = errors.New("the log of revocations is not the continuation of the log that was read: the database was restored or failed over")

// renumber gives the log another epoch, unless another process has done so, because its numbers no longer mean what they
// meant for the readers of epoch.
func renumber(ctx context.Context, conn *pgx.Conn, epoch string) error {
	// The first 36 characters of the epoch are the UUID.
	_, err := conn.Exec(ctx, "UPDATE tallygate.revocation_head SET epoch = gen_random_uuid() WHERE epoch::text = left($1, 36)", epoch)
	return err
}
