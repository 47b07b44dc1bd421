package gate

import (
	"cmp"
	"crypto/x509/pkix"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/internal/testpki"
)

// testTimeout bounds every wait of a test.
const testTimeout = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTestGate returns a gate with the demo's configuration, and the folder of its files. addresses
// has an address for each listener and for the API.
func newTestGate(t *testing.T, addresses map[string]string) (g *Gate, dir string) {
	t.Helper()
	dir = t.TempDir()
	template, err := os.ReadFile("../demo/demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	content := os.Expand(string(template), func(name string) string {
		return map[string]string{
			"PARTNERS": addresses["partners"], "ISSUER": addresses["issuer"], "ADMIN": addresses["admin"], "CONSOLE": cmp.Or(addresses["console"], "127.0.0.1:5"), "API": addresses["api"],
		}[name]
	})
	file := filepath.Join(dir, "tallygate.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	northwind, borealis := testpki.NewCA("Northwind"), testpki.NewCA("Borealis")
	for name, pair := range map[string]*testpki.Pair{
		"gate":         testpki.SelfSigned("gate", testpki.DNS("localhost"), testpki.IP("127.0.0.1")),
		"northwind-ca": northwind, "northwind": northwind.Leaf("ledger", testpki.DNS("ledger.northwind.example")),
		"borealis-ca": borealis, "borealis": borealis.Leaf("sync", testpki.Subject(pkix.Name{CommonName: "sync", Organization: []string{"Borealis"}})),
	} {
		pair.Write(dir, name)
	}
	if g, err = New(file, io.Discard); err != nil {
		t.Fatal(err)
	}
	return g, dir
}

// unopenedGate returns a gate that has not opened its ports.
func unopenedGate(t *testing.T) *Gate {
	t.Helper()
	g, _ := newTestGate(t, map[string]string{"partners": "127.0.0.1:1", "issuer": "127.0.0.1:2", "admin": "127.0.0.1:3", "api": "127.0.0.1:4"})
	return g
}

// openListeners opens a port for each listener of the demo's configuration and for its API.
func openListeners(t *testing.T) (listeners map[string]net.Listener, addresses map[string]string) {
	t.Helper()
	listeners, addresses = map[string]net.Listener{}, map[string]string{}
	for _, name := range []string{"partners", "issuer", "admin", "console", "api"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[name], addresses[name] = l, l.Addr().String()
	}
	return listeners, addresses
}
