package issuer

import "context"

// Sweep does at once what Run does every minute.
func (i *Issuer) Sweep(ctx context.Context) { i.sweep(ctx) }
