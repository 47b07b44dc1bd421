package postgres

import "time"

// LimitTokens replaces the limit of stored tokens by bytes.
func (s *Store) LimitTokens(bytes int64) { s.maxTokenBytes = bytes }

// PollEvery replaces the interval between two readings of the log.
func (s *Store) PollEvery(interval time.Duration) { s.pollInterval = interval }
