package policy

import (
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A certificate belongs to one application: two files, or a file and a thumbprint, of one partner or two
// must not register it twice.
func TestCheckRegistered(t *testing.T) {
	one, two := access.Thumbprint{1}, access.Thumbprint{2}
	pin := func(t access.Thumbprint) config.RegisteredCertificate {
		return config.RegisteredCertificate{Thumbprints: []access.Thumbprint{t}}
	}
	partners := func(a, b, c config.Application) *config.Config {
		a.ClientID, b.ClientID, c.ClientID = "a", "b", "c"
		return &config.Config{Partners: config.Partners{List: []config.Partner{
			{Name: "p", Applications: []config.Application{a, b}}, {Name: "q", Applications: []config.Application{c}},
		}}}
	}
	type read = map[config.ClientID]map[access.Thumbprint]bool
	var none config.Application
	for name, tt := range map[string]struct {
		cfg  *config.Config
		read read
		want string
	}{
		"apart":                {partners(none, none, none), read{"a": {one: true}, "c": {two: true}}, ""},
		"listed and read":      {partners(config.Application{Certificate: pin(one)}, none, none), read{"a": {one: true}}, ""},
		"two partners":         {partners(none, none, none), read{"a": {one: true}, "c": {one: true, two: true}}, "partners.list[1].applications[0]: a certificate of c is already registered for a: a certificate belongs to one application"},
		"one partner":          {partners(none, none, none), read{"a": {one: true}, "b": {one: true}}, "partners.list[0].applications[1]: a certificate of b is already registered for a: a certificate belongs to one application"},
		"a file, a thumbprint": {partners(none, none, config.Application{Certificate: pin(two)}), read{"b": {two: true}}, "partners.list[1].applications[0]: a certificate of c is already registered for b: a certificate belongs to one application"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := CheckRegistered(tt.cfg, tt.read); err != nil {
				got = err.Error()[len((&config.Config{}).Position("").String()+": "):]
			}
			if got != tt.want {
				t.Errorf("CheckRegistered = %q, want %q", got, tt.want)
			}
		})
	}
}
