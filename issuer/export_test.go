package issuer

import (
	"context"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
)

// Sweep does now what Run does every sweepInterval.
func (i *Issuer) Sweep(ctx context.Context) { i.sweep(ctx) }

// Store returns the state, for tests that write to it.
func (i *Issuer) Store() *store.File { return i.state.(*store.File) }

// OpenWithin is Open with another timeout.
func (i *Issuer) OpenWithin(ctx context.Context, timeout time.Duration) error {
	return i.openWithin(ctx, timeout)
}
