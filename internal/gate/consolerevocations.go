package gate

import (
	"time"

	"github.com/tallygate/tallygate/internal/console"
	"github.com/tallygate/tallygate/revocation"
)

// consoleRevocations returns what the console shows of revocations, or nil if s has neither a feed nor an issuer.
func (s *state) consoleRevocations() *console.Revocations {
	if s.revoked == nil {
		return nil
	}
	out := &console.Revocations{}
	for _, kind := range revocation.Kinds() {
		out.Entries = append(out.Entries, console.RevocationEntries{Kind: kind.String(), Count: s.revoked.Len(kind)})
	}
	add := func(at time.Time, e *revocation.Entry) {
		out.Events = append(out.Events, console.RevocationEvent{At: at, Kind: e.Kind.String(), Subject: e.Label()})
	}
	if s.Issuer != nil {
		status := s.Issuer.RevocationStatus()
		out.Log = &console.RevocationLog{Position: status.Feed.Position.String(), Subscribers: status.Feed.Subscribers, Unknown: textOf(status.Unknown)}
		for i := range status.Feed.Events {
			add(status.Feed.Events[i].Stored, &status.Feed.Events[i].Entry)
		}
	}
	if s.subscriber != nil {
		status := s.subscriber.Status()
		out.Feed = &console.RevocationFeed{
			Host: status.Feed, Connected: status.Connected, Since: status.Since, Failure: textOf(status.Failure),
			Position: status.Position.String(), Synced: status.LastSync, Stale: textOf(status.Stale), Full: status.Full,
		}
		for i := range status.Events {
			add(status.Events[i].Time, &status.Events[i].Entry)
		}
	}
	return out
}

// textOf returns the text of err, or "" for nil.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
