package revocation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

const (
	own     = "https://issuer.example"
	foreign = "https://keycloak.example/realms/partners"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func tokenSum(jti string) string {
	sum := sha256.Sum256([]byte(jti))
	return string(sum[:])
}

// entries has one entry of each kind.
var entries = []Entry{
	{Kind: Token, Subject: tokenSum("a"), Until: noon.Add(time.Hour)},
	{Kind: ForeignToken, Subject: ForeignTokenSum(foreign, "b"), Until: noon.Add(time.Hour)},
	{Kind: Certificate, Subject: access.Thumbprint{1}.String()},
	{Kind: Application, Subject: "ledger", IssuedBy: noon},
	{Kind: Partner, Subject: "northwind", IssuedBy: noon},
	{Kind: ForeignSubject, Subject: ForeignSubjectName(foreign, "service-account"), IssuedBy: noon},
}

func testRules() *Rules {
	return NewRules(&config.Config{
		AuthorizationServers: []config.AuthorizationServer{{Issuer: foreign, Leeway: time.Minute}},
		Partners: config.Partners{List: []config.Partner{
			{Name: "northwind", Applications: []config.Application{{ClientID: "northwind-orders"}}},
		}},
	}, own)
}

func TestRevoked(t *testing.T) {
	before, after := noon.Add(-time.Second), noon.Add(2*time.Minute)
	bound := access.Confirmation{Present: true, Thumbprint: access.Thumbprint{1}}
	tests := []struct {
		name  string
		token access.Unchecked
		by    int // index in entries; -1: no entry revokes the token
	}{
		{"own token", access.Unchecked{Issuer: own, TokenID: "a", IssuedAt: after}, 0},
		{"jti of an own token at another server", access.Unchecked{Issuer: foreign, TokenID: "a", IssuedAt: after}, -1},
		{"foreign token", access.Unchecked{Issuer: foreign, TokenID: "b", IssuedAt: after}, 1},
		{"jti of a foreign token at a third server", access.Unchecked{Issuer: "https://third.example", TokenID: "b", IssuedAt: after}, -1},
		{"jti of a foreign token at our issuer", access.Unchecked{Issuer: own, TokenID: "b", IssuedAt: after}, -1},
		{"bound to the certificate", access.Unchecked{Issuer: own, IssuedAt: after, Confirmation: bound}, 2},
		{"application", access.Unchecked{Issuer: own, ClientID: "ledger", IssuedAt: noon}, 3},
		{"application later", access.Unchecked{Issuer: own, ClientID: "ledger", IssuedAt: noon.Add(time.Second)}, -1},
		{"application within the leeway", access.Unchecked{Issuer: foreign, ClientID: "ledger", IssuedAt: noon.Add(time.Minute)}, 3},
		{"application without iat", access.Unchecked{Issuer: foreign, ClientID: "ledger"}, 3},
		{"partner", access.Unchecked{Issuer: own, ClientID: "northwind-orders", IssuedAt: before}, 4},
		{"partner later", access.Unchecked{Issuer: own, ClientID: "northwind-orders", IssuedAt: after}, -1},
		{"foreign subject", access.Unchecked{Issuer: foreign, Subject: "service-account", ClientID: "other", IssuedAt: before}, 5},
		{"foreign subject as client_id", access.Unchecked{Issuer: foreign, Subject: "x", ClientID: "service-account", IssuedAt: before}, 5},
		{"foreign subject at our issuer", access.Unchecked{Issuer: own, Subject: "service-account", IssuedAt: before}, -1},
		{"no claims", access.Unchecked{}, -1},
	}
	rules := testRules()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i, e := range entries {
				set := NewSet()
				if err := set.Add(e); err != nil {
					t.Fatal(err)
				}
				if got := rules.Revoked(set, &tt.token, after.Add(time.Hour)); got != (i == tt.by) {
					t.Errorf("with the entry %d: Revoked = %t, want %t", i, got, i == tt.by)
				}
			}
		})
	}
}

// An entry survives its JSON form, and a form that a gate does not understand is an error.
func TestEntryJSON(t *testing.T) {
	for _, e := range entries {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var got Entry
		if err := json.Unmarshal(text, &got); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for _, bad := range []string{
		`{}`, `null`, `[]`, `"x"`, `{"token":"short","until":1}`, `{"application":"a"}`, `{"application":"a","partner":"b","issued_by":1}`,
		`{"certificate":"a"}`, `{"Application":"a","issued_by":1}`, `{"application":"a","application":"b","issued_by":1}`, `{"application":"a","issued_by":-1}`, `{"application":"a","issued_by":1,"scope":"x"}`, `{"foreign_subject":"a","issued_by":1}`,
	} {
		var got Entry
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s was decoded as %+v, want an error", bad, got)
		}
	}
}

// Each returns the added entries, and Sweep removes only revocations of tokens whose Until has passed.
func TestSet(t *testing.T) {
	set := NewSet()
	for _, e := range entries {
		if err := set.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	weaker := entries[3]
	weaker.IssuedBy = noon.Add(-time.Hour)
	if err := set.Add(weaker); err != nil {
		t.Fatal(err)
	}
	collect := func() (all []Entry) {
		set.Each(func(e Entry) bool { all = append(all, e); return true })
		return all
	}
	if diff := cmp.Diff(entries, collect()); diff != "" {
		t.Errorf("Each (-want +got):\n%s", diff)
	}
	set.Sweep(noon.Add(time.Hour))
	if got := len(collect()); got != len(entries) {
		t.Errorf("%d entries at their Until, want %d", got, len(entries))
	}
	set.Sweep(noon.Add(time.Hour + time.Second))
	if diff := cmp.Diff(entries[2:], collect()); diff != "" {
		t.Errorf("after the Until (-want +got):\n%s", diff)
	}
}

func TestPosition(t *testing.T) {
	want := Position{"6f9619ff-8b86-d011-b42d-00c04fc964ff-00000001", 42}
	if got, err := ParsePosition(want.String()); got != want || err != nil {
		t.Errorf("ParsePosition(%q) = %v, %v; want %v", want.String(), got, err, want)
	}
	for _, bad := range []string{"", ":", "1", ":1", "a:", "a:-1", "a:1:2", "a:x", strings.Repeat("a", 200) + ":1"} {
		if got, err := ParsePosition(bad); err == nil {
			t.Errorf("ParsePosition(%q) = %v, want an error", bad, got)
		}
	}
}

// BenchmarkRevoked is the cost on every request, with a million revoked tokens.
func BenchmarkRevoked(b *testing.B) {
	set := NewSet()
	for i := range 1_000_000 {
		if err := set.Add(Entry{Kind: Token, Subject: tokenSum(fmt.Sprint("jti", i)), Until: noon}); err != nil {
			b.Fatal(err)
		}
	}
	for _, e := range entries {
		if err := set.Add(e); err != nil {
			b.Fatal(err)
		}
	}
	rules := testRules()
	for name, issuer := range map[string]string{"own": own, "foreign": foreign} {
		token := &access.Unchecked{
			Issuer: issuer, TokenID: "9b2f4c1e-6f0d-4f3e-8a43-3d9d1a7b5c10", Subject: "northwind-orders", ClientID: "northwind-orders",
			IssuedAt: noon.Add(time.Hour), Confirmation: access.Confirmation{Present: true, Thumbprint: access.Thumbprint{2}},
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rules.Revoked(set, token, noon) {
					b.Fatal("revoked")
				}
			}
		})
	}
}

// Labels are shown to operators, and never have the whole hash of a token.
func TestLabel(t *testing.T) {
	sum := sha256.Sum256([]byte("jti"))
	for want, e := range map[string]Entry{
		"northwind":                         {Kind: Partner, Subject: "northwind"},
		hex.EncodeToString(sum[:8]):         {Kind: Token, Subject: string(sum[:])},
		"svc-reports at https://id.example": {Kind: ForeignSubject, Subject: ForeignSubjectName("https://id.example", "svc-reports")},
		"":                                  {Kind: Token},
	} {
		if got := e.Label(); got != want {
			t.Errorf("the label of %v is %q, want %q", e, got, want)
		}
	}
	for _, k := range Kinds() {
		if k.String() == "" {
			t.Errorf("kind %d has no name", k)
		}
	}
}

// The check of each request allocates nothing, with entries of each kind and with long names.
func TestRevokedDoesNotAllocate(t *testing.T) {
	set := NewSet()
	for _, e := range entries {
		if err := set.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	rules := testRules()
	for _, issuer := range []string{own, foreign, "https://third.example"} {
		token := &access.Unchecked{Issuer: issuer, TokenID: strings.Repeat("x", 128), Subject: "service", ClientID: "northwind-orders", IssuedAt: noon.Add(time.Hour)}
		if n := testing.AllocsPerRun(100, func() {
			if rules.Revoked(set, token, noon) {
				t.Error("revoked")
			}
		}); n != 0 {
			t.Errorf("%v allocations for a token of %s, want 0", n, issuer)
		}
	}
}

// BenchmarkBytesPerEntry is the memory that a million revocations take, by kind.
func BenchmarkBytesPerEntry(b *testing.B) {
	const n = 1_000_000
	for name, entry := range map[string]func(i int) Entry{
		"token": func(i int) Entry { return Entry{Kind: Token, Subject: tokenSum(fmt.Sprint(i)), Until: noon} },
		"application": func(i int) Entry {
			return Entry{Kind: Application, Subject: fmt.Sprintf("application-%07d", i), IssuedBy: noon}
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				set := NewSet()
				for i := range n {
					if err := set.Add(entry(i)); err != nil {
						b.Fatal(err)
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/entry")
				runtime.KeepAlive(set)
			}
		})
	}
}
