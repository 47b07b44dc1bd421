package main

import (
	"fmt"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// The end of each partner's first anchor to end is a metric, also after a reload. A disabled partner has
// none. The log warns of an anchor that has expired.
func TestAnchorsEnd(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	expect := func(partner string, want *testpki.Pair) {
		t.Helper()
		series := fmt.Sprintf(`tallygate_certificate_not_after_timestamp_seconds{name=%q,role="client_ca"}`, partner)
		got, err := r.metric(series)
		switch {
		case want == nil && err == nil:
			t.Errorf("%s is %v, want no such series", series, got)
		case want != nil && (err != nil || got != float64(want.Cert.NotAfter.Unix())):
			t.Errorf("%s = %v, %v, want %d", series, got, err, want.Cert.NotAfter.Unix())
		}
	}
	expect("northwind", r.pairs["northwind-ca"])
	expect("borealis", r.pairs["borealis-ca"])
	expect("dormant", nil)
	r.configure("trust: [northwind-ca.pem]", "trust: [northwind-ca.pem, expired-ca.pem]", "name: borealis", "name: austral", "disabled: true", "disabled: false")
	r.await("ok", 1)
	expect("northwind", r.pairs["expired-ca"])
	expect("borealis", nil)
	expect("austral", r.pairs["borealis-ca"])
	expect("dormant", r.pairs["dormant-ca"])
	lines := r.lines("anchor of client certificates has expired")
	if len(lines) != 1 || lines[0]["level"] != "WARN" || lines[0]["partner"] != "northwind" {
		t.Errorf("the log has %v, want one warning of northwind's anchor", lines)
	}
	r.check(r.stop())
}
