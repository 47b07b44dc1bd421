package config

import (
	"slices"
	"strings"
	"time"
	"unicode"
)

// The bounds of what concerns time.
const (
	maxLeeway        = 5 * time.Minute // RFC 7519 section 4.1.4: usually no more than a few minutes
	maxTokenLifetime = 24 * time.Hour
	maxReading       = 30 * 24 * time.Hour // of anything to do with reading key sets
)

// tokenTypes are the typ values that an access token may have: those of RFC 9068
// section 4, and that of servers older than it. "JWT" is also what an ID token may
// carry, so it must be asked for.
var tokenTypes = []string{"at+jwt", "application/at+jwt", "JWT"}

func (k *checker) authorizationServers() {
	list := k.config.AuthorizationServers
	if len(list) == 0 {
		k.fault("authorization_servers", "at least one is required: nobody else may vouch for tokens")
	}
	names := make(map[Name]string)
	issuers := make(map[Identifier]string)
	for i := range list {
		s, path := &list[i], element("authorization_servers", i)
		k.require(path+".name", s.Name != "")
		unique(k, names, path+".name", "the name", s.Name)
		k.require(path+".issuer", s.Issuer != "")
		unique(k, issuers, path+".issuer", "the issuer", s.Issuer)
		k.texts(path+".audiences", s.Audiences)
		if len(s.Algorithms) == 0 {
			k.fault(path+".algorithms", "at least one is required: an empty list accepts no token")
		}
		distinct(k, path+".algorithms", s.Algorithms)
		k.tokenTypes(path+".types", s.Types)
		k.within(path+".leeway", s.Leeway, 0, maxLeeway)
		k.keySet(path+".key_set", s)
		if s.Cache.Entries < 0 {
			k.fault(path+".cache.entries", "must be 0, for no cache, or more, is %d", s.Cache.Entries)
		}
	}
}

// texts checks a list of values that a token is compared with.
func (k *checker) texts(path string, list []string) {
	if len(list) == 0 {
		k.fault(path, "at least one is required: an empty list accepts no token")
	}
	for i, s := range list {
		k.text(element(path, i), s)
	}
	distinct(k, path, list)
}

// text checks a value that a token is compared with, or says.
func (k *checker) text(path, s string) {
	switch {
	case s == "":
		k.fault(path, "must not be empty")
	case strings.TrimSpace(s) != s || strings.ContainsFunc(s, unicode.IsControl):
		k.fault(path, "must not begin or end with a space, nor have control characters")
	}
}

func (k *checker) tokenTypes(path string, list []string) {
	if len(list) == 0 {
		k.fault(path, "at least one is required: an empty list accepts no token")
	}
	for i, s := range list {
		known := slices.ContainsFunc(tokenTypes, func(t string) bool { return strings.EqualFold(s, t) })
		if !known {
			k.fault(element(path, i), "expected %s, got %s", orList(tokenTypes), quote(s))
		}
	}
	distinct(k, path, list)
}

// keySet checks that the keys of s come from exactly one place.
func (k *checker) keySet(path string, s *AuthorizationServer) {
	set := &s.KeySet
	switch {
	case set.URL != nil && set.File != "":
		k.fault(path, "url and file exclude each other")
	case set.URL == nil && set.File == "" && !k.unknown(path+".url") && !k.unknown(path+".file") && !k.isOwn(s.Issuer):
		k.fault(path, "url or file is required; only the server that is our own issuer needs neither")
	}
	if set.URL != nil && set.URL.Scheme != "https" {
		k.fault(path+".url", "must start with https://: whoever can change the keys can make tokens")
	}
	k.fetchTrust(path+".trust", set.Trust, path+".url", set.URL)
	k.within(path+".refresh", set.Refresh, time.Second, maxReading)
	k.within(path+".cool_down", set.CoolDown, time.Second, maxReading)
	if k.unknown(path + ".refresh") {
		return
	}
	k.within(path+".max_stale", set.MaxStale, set.Refresh, maxReading) // or keys would end before they are read again
}

// isOwn reports whether issuer is that of our own issuer, or cannot be told because
// one of the two could not be decoded.
func (k *checker) isOwn(issuer Identifier) bool {
	if issuer == "" || k.unknown("issuer.issuer") {
		return true
	}
	return k.config.Issuer != nil && k.config.Issuer.Issuer == issuer
}
