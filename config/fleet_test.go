package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fleet returns a configuration with 100 applications for each partner.
func fleet(partners int) []byte {
	var b bytes.Buffer
	b.WriteString(minimalHead)
	b.WriteString("partners:\n  list:\n")
	for p := range partners {
		fmt.Fprintf(&b, "    - name: partner-%d\n      trust: [partner-%d-ca.pem]\n      applications:\n", p, p)
		for a := range 100 {
			fmt.Fprintf(&b, "        - client_id: application-%d-%d\n", p, a)
			fmt.Fprintf(&b, "          certificate: {san_dns: application-%d.partner-%d.example}\n", a, p)
			b.WriteString("          apis: [accounts]\n          scopes: [accounts:read]\n")
		}
	}
	return b.Bytes()
}

// minimalHead is a configuration without partners.
const minimalHead = `listener:
  certificate:
    files: {certificate: tls.crt, key: tls.key}
authorization_servers:
  - name: partners
    issuer: https://as.example.com
    audiences: [https://api.example.com]
    key_set: {url: https://as.example.com/jwks}
apis:
  - name: accounts
    hosts: [api.example.com]
    upstream: {url: "http://127.0.0.1:8080"}
    routes:
      - {methods: [GET], path: "/accounts/{id}", scopes: [accounts:read]}
`

// A large file loads, and the position of its last value is right.
func TestFleet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(path, fleet(20), 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(t, path)
	last := c.Partners.List[19].Applications[99]
	if last.ClientID != "application-19-99" || len(last.APIs) != 1 {
		t.Errorf("the last application = %+v, want application-19-99 with one API", last)
	}
	if at := c.Position("partners.list[19].applications[99].apis[0]"); at.Column != 18 {
		t.Errorf("Position of the last API = %v, want column 18", at)
	}
}

// Most of the time is the YAML parser's.
func BenchmarkLoad(b *testing.B) {
	for _, partners := range []int{10, 1000} {
		text := fleet(partners)
		b.Run(fmt.Sprintf("applications=%d", partners*100), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse("fleet.yaml", "/etc/tallygate", text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
