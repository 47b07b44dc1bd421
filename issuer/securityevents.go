package issuer

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

const (
	// maxForeign bounds the revocations of each kind by other authorization servers. It is a quarter of
	// revocation.MaxEntries, so that the other issuers that share the state find room too.
	maxForeign = revocation.MaxEntries / 4
	// foreignShares says which part of maxForeign one authorization server may have, so that no server can prevent
	// revocations by other servers: a half, 2^18, as in the folder of a gate without an issuer.
	foreignShares = 2
	// storing is the number of revocations that are stored at the same time. The store writes them together.
	storing = 32
)

// RevokeForeign returns nil once the revocations by the authorization server with the identifier server are durable and in
// effect. They have no audit record, because the other server could fill the audit of the operators' revocations; the
// log names the server. The error is [revocation.ErrFull] if there is no room. After an error some of the entries may be stored;
// storing them again is harmless.
func (i *Issuer) RevokeForeign(ctx context.Context, server string, entries []revocation.Entry) error {
	group, _ := errgroup.WithContext(ctx)
	group.SetLimit(storing)
	for _, e := range entries {
		r := store.Revocation{Kind: e.Kind, Subject: e.Subject, Client: server, IssuedBy: e.IssuedBy, Until: e.Until}
		if i.revocations.isFull(&r) {
			return errors.Join(revocation.ErrFull, group.Wait())
		}
		group.Go(func() error { return i.revocations.add(r) })
	}
	return group.Wait()
}
