package httpserver

import (
	"net"
	"testing"
	"time"
)

// Addresses of one IPv6 /64 count as one client.
func TestClientPrefix(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1": "fe80::/64",
	} {
		if got := clientPrefix(&net.TCPAddr{IP: net.ParseIP(address), Port: 1, Zone: ""}); got.String() != want {
			t.Errorf("clientPrefix(%s) = %s, want %s", address, got, want)
		}
	}
	if a, b := clientPrefix(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}), clientPrefix(&net.TCPAddr{IP: net.ParseIP("fe80::2"), Zone: "eth1"}); a != b {
		t.Errorf("clientPrefix = %s and %s for two zones, want the same prefix", a, b)
	}
}

// A flood of refusals is logged at intervals, with the number of refusals.
func TestRefusalsInTheLog(t *testing.T) {
	d := &ConnLimiter{}
	start := time.Now()
	var told []int
	for i := range 2500 {
		if n := d.suppressedCount(start.Add(time.Duration(i) * 10 * time.Millisecond)); n > 0 {
			told = append(told, n)
		}
	}
	if len(told) != 3 || told[0] != 1 || told[1] != 1000 || told[2] != 1000 {
		t.Errorf("got log lines about %v refusals, want 1, 1000 and 1000: the first, then each 10 seconds", told)
	}
}
