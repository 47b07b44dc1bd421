package issuer

import (
	"context"

	"github.com/tallygate/tallygate/issuer/store"
)

// Sweep does at once what Run does every minute.
func (i *Issuer) Sweep(ctx context.Context) { i.sweep(ctx) }

// Store returns the state, for tests that fill it.
func (i *Issuer) Store() store.Store { return i.state }
