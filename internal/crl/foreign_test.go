package crl

import (
	"os"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A leftover has the authorities North and South, and lists of both that revoke a certificate.
type leftover struct {
	*harness
	north, south         *testpki.Pair
	goneNorth, goneSouth *testpki.Pair // the revoked certificates
}

func newLeftover(t *testing.T, stale config.WhenStale) *leftover {
	t.Helper()
	o := &leftover{north: testpki.NewCA("North"), south: testpki.NewCA("South")}
	o.goneNorth, o.goneSouth = o.north.Leaf("gone"), o.south.Leaf("left")
	o.harness = newHarness(t, o.north, o.south)
	o.WhenStale = stale
	return o
}

func (o *leftover) lists() [][]byte {
	return [][]byte{o.north.RevocationList(testpki.Revoking(o.goneNorth)), o.south.RevocationList(testpki.Revoking(o.goneSouth))}
}

// removeSouth removes the authority South from the configuration, and not its list.
func (o *leftover) removeSouth() { o.anchors = o.anchors[:1] }

func (o *leftover) reload(previous *Checker) (*Checker, error) {
	c, err := o.tryLoad(previous)
	if err == nil {
		err = c.FetchAdded(o.t.Context())
	}
	return c, err
}

// A partner is removed while its revocation list is still configured, in a file or at a URL, alone or in one
// bundle with the list of a partner who stays. The reload succeeds with a warning, and the other partner's
// revocations stay in force.
func TestListOfARemovedPartner(t *testing.T) {
	for _, stale := range []config.WhenStale{config.RefuseStale, config.AcceptStale} {
		for place, name := range map[string]func(*leftover){
			"files": func(o *leftover) {
				o.north.WriteRevocationList(o.dir, "north.crl", testpki.Revoking(o.goneNorth))
				o.south.WriteRevocationList(o.dir, "south.crl", testpki.Revoking(o.goneSouth))
				o.file("north.crl")
				o.file("south.crl")
			},
			"one file": func(o *leftover) {
				if err := os.WriteFile(string(o.path("both.crl")), pemOf(o.lists()...), 0o600); err != nil {
					o.t.Fatal(err)
				}
				o.file("both.crl")
			},
			"URLs": func(o *leftover) {
				for _, list := range o.lists() {
					p := newPublisher(o.t)
					p.publish(0, list)
					o.at(p.URL + "/one.crl")
				}
			},
			"one URL": func(o *leftover) {
				p := newPublisher(o.t)
				p.publish(0, pemOf(o.lists()...))
				o.at(p.URL + "/both.crl")
			},
		} {
			t.Run(string(stale)+" "+place, func(t *testing.T) {
				o := newLeftover(t, stale)
				name(o)
				before, err := o.reload(nil)
				if err != nil {
					t.Fatal(err)
				}
				o.expect(before, chain(o.goneNorth), access.RevokedCertificate)
				o.expect(before, chain(o.goneSouth), access.RevokedCertificate)

				o.removeSouth()
				after, err := o.reload(before)
				if err != nil {
					t.Fatalf("the reload fails: %v", err)
				}
				if stale == config.RefuseStale && !strings.Contains(o.log.String(), "revocation list ignored") {
					t.Errorf("log %q, want a warning about the ignored list", o.log.String())
				}
				o.expect(after, chain(o.goneNorth), access.RevokedCertificate)
				o.expect(after, chain(o.north.Leaf("good")), access.Granted)
				again, err := o.reload(after)
				if err != nil {
					t.Fatalf("the next reload fails: %v", err)
				}
				o.expect(again, chain(o.goneNorth), access.RevokedCertificate)

				// A start has the same result, where ignored lists refuse.
				if _, err := o.reload(nil); (err == nil) != (stale == config.RefuseStale) && !strings.Contains(place, "URL") {
					t.Errorf("with %s a start returns %v", stale, err)
				}
			})
		}
	}
}

// A foreign list does not replace the list of an authority of the configuration.
func TestForeignListInAFile(t *testing.T) {
	o := newLeftover(t, config.RefuseStale)
	o.north.WriteRevocationList(o.dir, "north.crl", testpki.Revoking(o.goneNorth))
	o.file("north.crl")
	before, err := o.reload(nil)
	if err != nil {
		t.Fatal(err)
	}
	testpki.NewCA("Foreign").WriteRevocationList(o.dir, "north.crl")
	after, err := o.reload(before)
	if err != nil {
		t.Fatal(err)
	}
	o.expect(after, chain(o.goneNorth), access.RevokedCertificate)
}

// An intermediate authority is removed from revocation.authorities while its list is still configured. Its
// certificates have an unknown status and are refused. With when_stale: accept, which would accept them, the
// list stays in force.
func TestListOfARemovedAuthority(t *testing.T) {
	for stale, want := range map[config.WhenStale]access.Reason{
		config.RefuseStale: access.RevocationUnknown, config.AcceptStale: access.RevokedCertificate,
	} {
		o := newLeftover(t, stale)
		issuing := o.north.Intermediate("Issuing")
		below := issuing.Leaf("below")
		o.north.WriteRevocationList(o.dir, "north.crl")
		issuing.WriteRevocationList(o.dir, "issuing.crl", testpki.Revoking(below))
		o.file("north.crl")
		o.file("issuing.crl")
		o.Authorities = []config.Path{o.write(issuing)}
		before, err := o.reload(nil)
		if err != nil {
			t.Fatal(err)
		}
		o.expect(before, chain(below), access.RevokedCertificate)
		o.Authorities = nil
		after, err := o.reload(before)
		if err != nil {
			t.Fatalf("%s: %v", stale, err)
		}
		o.expect(after, chain(below), want)
	}
}
