package mtls

import (
	"bytes"
	"encoding/pem"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// leftover is a configuration of the partners north and south whose lists are in force, and
// what it logs.
type leftover struct {
	*listed
	north, south *testpki.Pair
	gone, left   *testpki.Pair // revoked certificates of north and south
	log          bytes.Buffer
}

func newLeftover(t *testing.T, stale config.WhenStale) *leftover {
	t.Helper()
	o := &leftover{north: testpki.NewCA("North"), south: testpki.NewCA("South")}
	o.gone, o.left = o.north.Leaf("gone"), o.south.Leaf("left")
	o.listed = newListed(t, o.north, o.south)
	o.revocation().WhenStale = stale
	return o
}

// bundle returns one PEM text with the lists of both.
func (o *leftover) bundle() []byte {
	var all []byte
	for _, der := range [][]byte{o.north.RevocationList(testpki.Revoking(o.gone)), o.south.RevocationList(testpki.Revoking(o.left))} {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return all
}

func (o *leftover) write(name string, content []byte) {
	o.t.Helper()
	if err := os.WriteFile(string(o.path(name)), content, 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// removeSouth takes the partner south out of the configuration and leaves its lists there.
func (o *leftover) removeSouth() { o.Partners.List = o.Partners.List[:1] }

func (o *leftover) reload(previous *Trust) (*Trust, error) {
	trust, err := LoadTrust(o.Config, Options{Previous: previous, Log: slog.New(slog.NewTextHandler(&o.log, nil))})
	if err == nil {
		err = trust.Read(o.t.Context())
	}
	return trust, err
}

// A partner is removed and its revocation list is still named, in a file or at a URL, alone
// or in one bundle with the list of a partner who stays: the reload succeeds with a warning,
// and the other partner's revocations count as before.
func TestListOfARemovedPartner(t *testing.T) {
	for _, stale := range []config.WhenStale{config.RefuseStale, config.AcceptStale} {
		for place, name := range map[string]func(*leftover){
			"files": func(o *leftover) {
				o.north.WriteRevocationList(o.dir, "north.crl", testpki.Revoking(o.gone))
				o.south.WriteRevocationList(o.dir, "south.crl", testpki.Revoking(o.left))
				o.file("north.crl")
				o.file("south.crl")
			},
			"one file": func(o *leftover) {
				o.write("both.crl", o.bundle())
				o.file("both.crl")
			},
			"URLs": func(o *leftover) {
				for _, list := range [][]byte{o.north.RevocationList(testpki.Revoking(o.gone)), o.south.RevocationList(testpki.Revoking(o.left))} {
					p := newPublisher(o.t)
					p.publish(0, list)
					o.at(p.URL + "/one.crl")
				}
			},
			"one URL": func(o *leftover) {
				p := newPublisher(o.t)
				p.publish(0, o.bundle())
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
				judged(t, before, chain(o.gone), access.RevokedCertificate)
				judged(t, before, chain(o.left), access.RevokedCertificate)

				o.removeSouth()
				after, err := o.reload(before)
				if err != nil {
					t.Fatalf("the reload fails: %v", err)
				}
				if stale == config.RefuseStale && !strings.Contains(o.log.String(), "revocation list left out") {
					t.Errorf("the log has no warning: %q", o.log.String())
				}
				judged(t, after, chain(o.gone), access.RevokedCertificate)
				judged(t, after, chain(o.north.Leaf("good")), access.Granted)
				judged(t, after, chain(o.south.Leaf("stranger")), access.UntrustedCertificate)
				again, err := o.reload(after)
				if err != nil {
					t.Fatalf("the next reload fails: %v", err)
				}
				judged(t, again, chain(o.gone), access.RevokedCertificate)

				// A restart comes to the same, where left-out lists refuse.
				if _, err := o.reload(nil); (err == nil) != (stale == config.RefuseStale) && !strings.Contains(place, "URL") {
					t.Errorf("with %s a start returns %v", stale, err)
				}
			})
		}
	}
}

// What holds the lists of known authorities is not replaced by what holds foreign ones.
func TestForeignListInAFile(t *testing.T) {
	o := newLeftover(t, config.RefuseStale)
	o.north.WriteRevocationList(o.dir, "north.crl", testpki.Revoking(o.gone))
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
	judged(t, after, chain(o.gone), access.RevokedCertificate)
}

// An intermediate authority is removed from revocation.authorities, and its list is still
// named. Its certificates are refused for want of a status; with when_stale: accept, under
// which they would be accepted, the list stays in force.
func TestListOfARemovedAuthority(t *testing.T) {
	for stale, want := range map[config.WhenStale]access.Reason{
		config.RefuseStale: access.RevocationUnknown, config.AcceptStale: access.RevokedCertificate,
	} {
		o := newLeftover(t, stale)
		issuing := o.north.Intermediate("Issuing")
		below := issuing.Leaf("below")
		issuing.Write(o.dir, "issuing")
		o.north.WriteRevocationList(o.dir, "north.crl")
		issuing.WriteRevocationList(o.dir, "issuing.crl", testpki.Revoking(below))
		o.file("north.crl")
		o.file("issuing.crl")
		o.revocation().Authorities = []config.Path{o.path("issuing.pem")}
		before, err := o.reload(nil)
		if err != nil {
			t.Fatal(err)
		}
		judged(t, before, chain(below), access.RevokedCertificate)
		o.revocation().Authorities = nil
		after, err := o.reload(before)
		if err != nil {
			t.Fatalf("%s: %v", stale, err)
		}
		judged(t, after, chain(below), want)
	}
}
