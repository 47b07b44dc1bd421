package configcheck

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
)

// example is a configuration with every setting.
const example = "../../config.example.yaml"

// Every file that the example names has a known content, apart from secrets and revocation lists.
func TestContents(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse(example, "", text)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.NamedFiles()) < 10 {
		t.Fatalf("the example names %d files, want at least 10", len(cfg.NamedFiles()))
	}
	for _, named := range cfg.NamedFiles() {
		if contentOf(named.Setting) != other {
			continue
		}
		if end := filepath.Ext(named.Setting); !slices.Contains([]string{".secret_file", ".token_file", ".authorization_file", ".lists[0]", ".lists[1]"}, end) {
			t.Errorf("contentOf(%q) = other, want the content that the setting needs", named.Setting)
		}
	}
}

// A line of an error has the position of the setting whose file it names, also where the name of one
// file begins the name of another.
func TestAdd(t *testing.T) {
	cfg := &config.Config{}
	cfg.Listener.ClientCertificates.Trust = []config.Path{"/etc/ca.pem", "/etc/ca.pem.old"}
	reported := config.Faults{{Path: "listener.client_certificates.trust[0]", Message: "open /etc/ca.pem: no such file"}}
	got := Add(reported, cfg, errors.New("reading /etc/ca.pem: no such file\n/etc/ca.pem.old: malformed\nissuer.state: too long\nsomething else: a"))
	want := append(reported,
		config.Fault{Path: "listener.client_certificates.trust[1]", Message: "/etc/ca.pem.old: malformed"},
		config.Fault{Path: "issuer.state", Message: "too long"},
		config.Fault{Message: "something else: a"},
	)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Add (-want +got):\n%s", diff)
	}
}
