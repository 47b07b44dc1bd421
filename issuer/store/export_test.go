package store

import "time"

// LimitTokens replaces the limit of stored tokens by bytes.
func (f *File) LimitTokens(bytes int64) { f.maxTokenBytes = bytes }

// MaxPending is maxPending.
const MaxPending = maxPending

// FollowEvery replaces the interval of the empty pages of Follow.
func (f *File) FollowEvery(interval time.Duration) { f.log.interval = interval }

// LimitAudit replaces the limit of audit records.
func (f *File) LimitAudit(records uint64) { f.maxAudit = records }

// SweepAt is Sweep of a process that has the file open for elapsed and whose clock shows wall.
func (f *File) SweepAt(wall time.Time, elapsed time.Duration) (int, error) {
	f.clock.opened = wall.Round(0).Add(-elapsed)
	return f.Sweep(wall.Round(0))
}
