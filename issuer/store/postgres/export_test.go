package postgres

// LimitTokens replaces the limit of stored tokens by bytes.
func (s *Store) LimitTokens(bytes int64) { s.maxTokenBytes = bytes }
