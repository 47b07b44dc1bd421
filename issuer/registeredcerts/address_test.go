package registeredcerts_test

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

// Each line has an address and whether it may be dialled with the system's roots and with
// configured anchors.
func TestCheckAddress(t *testing.T) {
	const always, inside, never = "always", "inside", "never"
	for _, c := range []struct{ address, want string }{
		{"93.184.216.34", always}, {"1.0.0.1", always}, {"2606:4700::1111", always}, {"2a00::1", always},
		{"126.255.255.255", always}, {"128.0.0.1", always}, {"169.253.255.255", always}, {"169.255.0.0", always},
		{"172.15.255.255", always}, {"172.32.0.0", always}, {"192.169.0.0", always}, {"100.63.255.255", always},
		{"100.128.0.0", always}, {"223.255.255.255", always}, {"198.17.255.255", always}, {"198.20.0.0", always},
		{"::ffff:93.184.216.34", always}, {"64:ff9b::5db8:d822", always}, {"2002:5db8:d822::1", always},
		{"2001:1::1", always}, {"192.0.1.0", always},

		{"10.0.0.1", inside}, {"10.255.255.255", inside}, {"172.16.0.1", inside}, {"172.31.255.255", inside},
		{"192.168.0.1", inside}, {"100.64.0.0", inside}, {"100.127.255.255", inside}, {"198.18.0.1", inside},
		{"fc00::1", inside}, {"fdff::1", inside}, {"fec0::1", inside}, {"::ffff:10.0.0.1", inside},
		{"64:ff9b::10.0.0.1", inside}, {"2002:c0a8:1::1", inside}, {"::ffff:100.64.0.1", inside}, {"fd00:ec2::254", inside},

		{"127.0.0.1", never}, {"127.255.255.254", never}, {"::1", never}, {"::1%lo", never}, {"::ffff:127.0.0.1", never},
		{"169.254.169.254", never}, {"::ffff:169.254.169.254", never}, {"fe80::1", never}, {"fe80::1%eth0", never}, {"febf::1", never},
		{"0.0.0.0", never}, {"0.1.2.3", never}, {"::", never}, {"::ffff:0.0.0.0", never}, {"::7f00:1", never}, {"::93.184.216.34", never},
		{"224.0.0.1", never}, {"239.255.255.255", never}, {"240.0.0.1", never}, {"255.255.255.255", never},
		{"ff02::1", never}, {"ff0e::1", never}, {"192.0.0.192", never}, {"2001::1", never}, {"64:ff9b:1::1", never},
		{"64:ff9b::127.0.0.1", never}, {"64:ff9b::169.254.169.254", never}, {"64:ff9b::7f00:1%eth0", never}, {"64:ff9b::", never},
		{"2002:7f00:1::", never}, {"2002:a9fe:a9fe::1", never}, {"2002::1", never}, {"2002:e000:1::", never},
	} {
		a := netip.MustParseAddr(c.address)
		got := map[[2]bool]string{{true, true}: always, {false, true}: inside, {false, false}: never}[[2]bool{
			registeredcerts.Dialable(a, false) == nil, registeredcerts.Dialable(a, true) == nil,
		}]
		if got != c.want {
			t.Errorf("%s may be dialled with %q, want %q", c.address, got, c.want)
		}
	}
	if registeredcerts.Dialable(netip.Addr{}, true) == nil {
		t.Error("checkAddress of the zero address returned nil, want an error")
	}
}

// A server at a private address is allowed with configured anchors only.
func TestPrivateNetwork(t *testing.T) {
	uri := gatetest.URL(t, "https://client.internal/jwks")
	trust := []config.Path{file(t, "ca.pem", testpki.NewCA("internal CA").CertPEM())}
	address := netip.MustParseAddr("10.1.2.3")
	if err := newSet(t, config.ClientKeys{JWKSURI: uri}).Dialable(address); err == nil {
		t.Error("checkAddress allows a private address without configured anchors, want an error")
	}
	if err := newSet(t, config.ClientKeys{JWKSURI: uri, Trust: trust}).Dialable(address); err != nil {
		t.Errorf("checkAddress with configured anchors returned %v, want nil", err)
	}
}

// The address is checked at the connection: a loopback server gets no connection, whether the
// URL has an address or a name.
func TestLoopbackIsRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	anchors := []config.Path{file(t, "ca.pem", testpki.NewCA("client CA").CertPEM())}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"} {
		for name, trust := range map[string][]config.Path{"own anchors": anchors, "the system's": nil} {
			s := newSet(t, config.ClientKeys{JWKSURI: gatetest.URL(t, "https://"+host+":"+port+"/jwks"), Trust: trust})
			has, err := s.Has(t.Context(), testpki.SelfSigned("ledger").Cert)
			if has || err == nil || !strings.Contains(err.Error(), "a jwks_uri must not be at a loopback") {
				t.Errorf("%s, %s: Has returned %t, %v; want an error about the address", host, name, has, err)
			}
		}
	}
	// Without the check the connection would be made: the listener is there.
	s := newSet(t, config.ClientKeys{JWKSURI: gatetest.URL(t, "https://localhost:"+port+"/jwks"), Trust: anchors})
	if n := connections.Load(); n != 0 {
		t.Errorf("the listener got %d connections, want 0", n)
	}
	s.DialLoopback()
	if _, err := s.Has(t.Context(), testpki.SelfSigned("ledger").Cert); err == nil {
		t.Error("Has returned nil although the listener hangs up, want an error")
	}
	_ = listener.Close()
	<-done
	if connections.Load() == 0 {
		t.Error("the listener is unreachable, so the test proves nothing")
	}
}
