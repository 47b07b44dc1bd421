package keyring

// Refresh does at once what Run does every 10 s.
func (r *Ring) Refresh() error { return r.refresh() }
