package console

import (
	"net/http"
	"time"

	"github.com/tallygate/tallygate/config"
)

// Revocations is what the process knows of revocations, by the feed of an issuer or as an issuer.
type Revocations struct {
	Feed    *RevocationFeed     // nil unless the process subscribes to a feed
	Log     *RevocationLog      // nil unless the process is an issuer
	Entries []RevocationEntries // the revocations in force
	Events  []RevocationEvent   // the last revocations that came while the process ran, the newest first
}

// A RevocationFeed is the stream of revocations from an issuer in another process.
type RevocationFeed struct {
	Host      string // of the feed in use or last tried; "" before the first try
	Connected bool
	Since     time.Time // when Connected changed
	Failure   string    // why the last stream ended or was not opened; "" before the first failure
	Position  string    // of the last message
	Synced    time.Time // when the set was last known to be complete; zero means never
	Stale     string    // why the set may be incomplete; "" if it is complete
	Full      bool      // the set had no room for a revocation
}

// A RevocationLog is the log of an issuer, which it sends to the gates that subscribe.
type RevocationLog struct {
	Position    string // of the last revocation
	Subscribers int    // the gates that have a stream
	Unknown     string // why the issuer may have missed a revocation; "" if it knows all
}

// RevocationEntries counts the revocations of one kind.
type RevocationEntries struct {
	Kind  string // such as token or partner
	Count int
}

// A RevocationEvent is one revocation.
type RevocationEvent struct {
	At      time.Time // when the issuer stored it
	Kind    string
	Subject string // a name or a thumbprint; for a token the hash of its jti, as in the log
}

// A revocationsPage shows how the process learns of revocations, and which it knows.
type revocationsPage struct {
	page
	*revocationsPart
}

// A revocationsPart is what a page shows of [Revocations].
type revocationsPart struct {
	Feed    *revocationFeed     `json:",omitempty"`
	Log     *RevocationLog      `json:",omitempty"`
	Entries []RevocationEntries `json:",omitempty"`
	Events  []revocationEvent   `json:",omitempty"`
}

// revocationFeed is a RevocationFeed with its settings.
type revocationFeed struct {
	RevocationFeed `json:"Status"`
	Server         string // the name of the issuer in the configuration
	WhenStale      string
	MaxStaleness   string
	SettingAt      string // the position of the settings
	synced         moment
	since          moment
}

type revocationEvent struct {
	RevocationEvent
	at moment
}

func (c *console) revocations(w http.ResponseWriter, r *http.Request) {
	v := c.view()
	respond(w, r, http.StatusOK, revocationsPage{v.page("Revocations", "/revocations"), v.revocationsPart()})
}

// revocationsPart returns nil if the process has neither a feed nor an issuer.
func (v *view) revocationsPart() *revocationsPart {
	known := v.state.Revocations
	if known == nil {
		return nil
	}
	part := &revocationsPart{Feed: v.revocationFeed(), Log: known.Log, Entries: known.Entries}
	for _, e := range known.Events {
		part.Events = append(part.Events, revocationEvent{e, v.moment(e.At)})
	}
	return part
}

// revocationFeed returns the feed with its settings, or nil if there is no feed.
func (v *view) revocationFeed() *revocationFeed {
	known, settings := v.state.Revocations, v.state.Config.Revocations
	if known == nil || known.Feed == nil || settings == nil {
		return nil
	}
	return &revocationFeed{
		RevocationFeed: *known.Feed, Server: string(settings.Server), WhenStale: string(settings.WhenStale), MaxStaleness: settings.MaxStaleness.String(),
		SettingAt: v.position("revocations"), synced: v.moment(known.Feed.Synced), since: v.moment(known.Feed.Since),
	}
}

// noticeRevocations reports that the process may have missed a revocation.
func (v *view) noticeRevocations(add func(notice)) {
	if f := v.revocationFeed(); f != nil {
		switch {
		case f.Stale != "":
			add(notice{Critical: true, Link: "/revocations", Go: "Revocations", Runbook: "tallygaterevocationsstale",
				Text: "The gate may have missed a revocation: " + f.Stale + ". " + staleConsequence(v.state.Config.Revocations.WhenStale)})
		case !f.Connected && v.now.Sub(f.Since) > 2*time.Minute:
			add(notice{Link: "/revocations", Go: "Revocations", Runbook: "tallygaterevocationstreamdown",
				Text: "The gate has had no stream of revocations for " + distance(v.now.Sub(f.Since)) + "."})
		}
	}
	if known := v.state.Revocations; known != nil && known.Log != nil && known.Log.Unknown != "" {
		add(notice{Critical: true, Link: "/revocations", Go: "Revocations", Runbook: "tallygateissuerrevocationsunknown",
			Text: "The issuer may have missed a revocation: " + known.Log.Unknown + "."})
	}
}

// staleConsequence says what happens to requests while the set is stale.
func staleConsequence(when config.WhenRevocationsStale) string {
	switch when {
	case config.ContinueRevocationsStale:
		return "It decides by the revocations that it knows."
	case config.IntrospectRevocationsStale:
		return "It asks the authorization server about each token."
	case config.RefuseRevocationsStale:
	}
	return "It refuses every request with 503 revocations_stale."
}
