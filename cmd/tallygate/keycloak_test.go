package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// keycloakFolder is where make keycloak installs the server.
const keycloakFolder = "../../.tools/keycloak-26.7.3"

// TestKeycloak runs docs/servers/keycloak.md: its commands with a real Keycloak, its configuration
// with a gate. TALLYGATE_KEYCLOAK=1 turns it on, after make keycloak.
func TestKeycloak(t *testing.T) {
	f := newRealServer(t, "TALLYGATE_KEYCLOAK")
	home, err := filepath.Abs(keycloakFolder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(home, "bin/kc.sh")); err != nil {
		t.Fatalf("%v: run make keycloak", err)
	}
	port, plain := freePort(t), freePort(t)
	f.issuer = "https://127.0.0.1:" + port + "/realms/partners"
	server := exec.Command(filepath.Join(home, "bin/kc.sh"), "start", "--optimized", "--cache=local",
		"--hostname=https://127.0.0.1:"+port, "--https-port="+port, "--http-host=127.0.0.1", "--http-enabled=true", "--http-port="+plain,
		"--https-certificate-file="+filepath.Join(f.dir, "as.pem"), "--https-certificate-key-file="+filepath.Join(f.dir, "as-key.pem"),
		"--truststore-paths="+filepath.Join(f.dir, "northwind-ca.pem"))
	server.Env = append(os.Environ(), "KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin")
	f.run(server)

	admin := keycloakAdmin{f, home}
	admin.run("kcadm.sh config credentials --server http://127.0.0.1:" + plain + " --realm master --user admin --password admin")
	admin.run(pageBlock(t, "keycloak.md", "sh", "kcadm.sh create realms"))

	const endpoint = "/protocol/openid-connect/token"
	f.fetch("bound", endpoint, "ledger", "northwind-ledger")
	f.fetch("of again", endpoint, "again", "northwind-ledger")
	admin.run(`app=$(kcadm.sh get clients -r partners -q clientId=northwind-ledger --fields id --format csv --noquotes)
kcadm.sh update clients/$app -r partners -s 'attributes."tls.client.certificate.bound.access.tokens"=false'`)
	f.fetch("unbound", endpoint, "ledger", "northwind-ledger")
	f.unbound("unbound")

	f.gateOf("keycloak.md", "https://keycloak.example.com/realms/partners", "profile: keycloak")
	f.binds()
	f.end()
	f.proposes("keycloak.md", "profile: keycloak")
}

// A keycloakAdmin runs commands of Keycloak's command line.
type keycloakAdmin struct {
	*foreign
	home string
}

func (a keycloakAdmin) run(script string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), serverStart)
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-e")
	shell.Dir, shell.Stdin = a.dir, strings.NewReader(script)
	shell.Env = append(os.Environ(), "PATH="+filepath.Join(a.home, "bin")+":"+os.Getenv("PATH"), "KC_OPTS=-Duser.home="+a.dir)
	if out, err := shell.CombinedOutput(); err != nil {
		a.t.Fatalf("%v\n%s", err, out)
	}
}
