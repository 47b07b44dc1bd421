package buildinfo

import (
	goversion "go/version"
	"strings"
)

// soundSince lists, by Go series, the first patch release without a known hole in net/http,
// crypto/tls or crypto/x509, oldest series first. Older series get no fixes.
//
// Update it when a Go release closes such a hole, and when a series begins or ends:
// RELEASING.md says how.
//
//	go1.26.9, go1.27.2   HTTP/2: any client ends the process by SETTINGS_HEADER_TABLE_SIZE,
//	                     and fills memory by announcing trailers
//	go1.26.10, go1.27.3  certificates: withdrawn keys of authorities are refused
var soundSince = []struct{ series, release string }{
	{"go1.26", "go1.26.10"},
	{"go1.27", "go1.27.3"},
}

// Outdated returns the release to use instead of the given Go release, or "" if no better release is
// known. release is a value of runtime.Version. Development versions are never outdated.
func Outdated(release string) (better string) {
	release = plainRelease(release)
	if !goversion.IsValid(release) {
		return ""
	}
	series := goversion.Lang(release)
	for _, sound := range soundSince {
		switch {
		case goversion.Compare(series, sound.series) > 0:
		case goversion.Compare(release, sound.release) < 0:
			return sound.release
		default:
			return ""
		}
	}
	return ""
}

// plainRelease removes suffixes of distributors and of GOEXPERIMENT from release, as in "go1.26.8-acme
// X:nodwarf5".
func plainRelease(release string) string {
	release, _, _ = strings.Cut(release, " ")
	release, _, _ = strings.Cut(release, "-")
	return release
}

// HTTP2EncoderTableSize returns the size in bytes of the header compression table for responses over
// HTTP/2; 0 for the default. From Go 1.27 on, golang.org/x/net uses the HTTP/2 server of net/http. In
// some releases, a change of the table size is a fatal race. For these releases the table is too small
// for any field, so that its size never changes.
func HTTP2EncoderTableSize(release string) int {
	if goversion.Compare(plainRelease(release), "go1.27rc0") >= 0 && Outdated(release) != "" {
		return 1
	}
	return 0
}

// OutdatedWarning returns a warning about the given Go release, or "" for a release without known
// holes.
func OutdatedWarning(release string) string {
	better := Outdated(release)
	if better == "" {
		return ""
	}
	return "built with " + release + ", which has known security holes in net/http, crypto/tls or crypto/x509: build with " + better + " or newer"
}
