package keyring

// Refresh does now what Run does every refreshInterval.
func (r *Ring) Refresh() error { return r.refresh() }
