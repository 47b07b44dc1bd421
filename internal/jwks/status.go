package jwks

import "time"

// A failure is a failed fetch or read.
type failure struct {
	at  time.Time
	err error
}

// Status is the state of a key set at one moment, for operators.
type Status struct {
	Fetched  bool      // the key set comes from a URL; otherwise it is read from a file, the configuration or our own issuer
	Keys     int       // usable keys
	At       time.Time // when the last fetch or read that succeeded began; zero if none succeeded
	MaxStale time.Duration
	Failure  error     // why the last fetch or read failed; nil if it succeeded
	FailedAt time.Time // zero if Failure is nil
}

// Status returns the state of s.
func (s *Source) Status() Status {
	status := Status{Fetched: s.isFetched(), MaxStale: s.settings.MaxStale}
	if set := s.Latest(); set != nil {
		status.Keys, status.At = len(set.keys), set.fetchedAt
	}
	if f := s.failed.Load(); f != nil {
		status.Failure, status.FailedAt = f.err, f.at
	}
	return status
}
