package bypass

import (
	"io"
	"net"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLoopbackPort(t *testing.T) {
	for text, want := range map[string]uint16{
		"http://127.0.0.1:8080": 8080, "http://localhost": 80, "https://[::1]": 443, "https://127.9.9.9:65535": 65535,
		"http://10.0.0.1:8080": 0, "http://accounts:8080": 0, "unix:///run/accounts.sock": 0, "http://0.0.0.0:80": 0, "http://localhost.example:80": 0,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := LoopbackPort(u); got != want || ok != (want != 0) {
			t.Errorf("LoopbackPort(%s) = %d, %t, want %d", text, got, ok, want)
		}
	}
}

// Accepting finds the addresses at which a port is open, and sends nothing.
func TestAccepting(t *testing.T) {
	sent := make(chan []byte, 1)
	address := netip.MustParseAddrPort(listen(t, func(c net.Conn) {
		all, _ := io.ReadAll(c)
		sent <- all
	}))
	own := []netip.Addr{netip.MustParseAddr("127.0.0.3"), address.Addr()}
	got := Accepting(t.Context(), own, address.Port())
	if diff := cmp.Diff([]string{address.String()}, texts(got)); diff != "" {
		t.Errorf("Accepting (-want +got):\n%s", diff)
	}
	if all := <-sent; len(all) != 0 {
		t.Errorf("Accepting sent %q, want nothing", all)
	}
}

// A proxy of a service mesh accepts every connection, and closes it if no server listens at the port.
func TestAcceptingAndClosing(t *testing.T) {
	closing := listen(t, func(net.Conn) {})
	if accepting(t.Context(), closing, time.Minute) {
		t.Error("accepting = true for a server that closes each connection, want false")
	}
	greeting := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail\r\n") })
	if !accepting(t.Context(), greeting, time.Minute) {
		t.Error("accepting = false for a server that greets, want true")
	}
}

func texts(addresses []netip.AddrPort) (all []string) {
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return all
}

// Own has no address that only this machine can use.
func TestOwn(t *testing.T) {
	for _, address := range Own() {
		if address.IsLoopback() || address.IsLinkLocalUnicast() || address.IsUnspecified() || address.IsMulticast() {
			t.Errorf("Own has %s", address)
		}
	}
}
