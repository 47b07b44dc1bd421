package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// An answered request is an answer that the client of dpop.mjs has received.
type answered struct {
	Status    int
	Text      string
	Nonce     string
	Challenge string
}

// RFC 9449 by a certified client, openid-client: the token request at the alias with a proof, a call
// whose first proof lacks a nonce, a call with the nonce, and the stolen token.
func TestOpenIDClientWithDPoP(t *testing.T) {
	gatetest.NeedPrograms(t, "node", "npm")
	var reached atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		_, _ = fmt.Fprintf(w, "%s dpop=%q authorization=%q", r.URL, r.Header["Dpop"], r.Header["Authorization"])
	}))
	t.Cleanup(upstream.Close)
	a := newAuthority(t, `upstream: {url: "http://127.0.0.1:1"}`, `upstream: {url: "`+upstream.URL+`"}, binding: both`,
		"partners:\n", "dpop: {nonce: required}\npartners:\n")
	installNode(t, a.dir, "openid-client")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	walk := exec.CommandContext(ctx, "node", "dpop.mjs")
	walk.Dir = a.dir
	walk.Env = append(os.Environ(), "ISSUER="+a.identifier, "CA=ca.pem", fmt.Sprint("GATE_PORT=", a.partners.Port))
	var complaints strings.Builder
	walk.Stderr = &complaints
	out, err := walk.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, complaints.String())
	}
	var saw struct {
		Type                         string
		First, Second, Other, Bearer answered
		Calls                        []answered
	}
	if err := json.Unmarshal(out, &saw); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	const text = `/accounts?from=2026-11-01 dpop=[] authorization=[]`
	if !strings.EqualFold(saw.Type, "DPoP") || saw.First.Status != 200 || saw.First.Text != text || saw.Second.Status != 200 || saw.Second.Text != text {
		t.Errorf("the client got a token of type %q and the answers %+v and %+v, want DPoP and twice 200 %q", saw.Type, saw.First, saw.Second, text)
	}
	// 401 with a nonce, then the call, then the second call with the same nonce.
	var statuses []int
	for _, c := range saw.Calls {
		statuses = append(statuses, c.Status)
	}
	if fmt.Sprint(statuses) != "[401 200 200]" || saw.Calls[0].Nonce == "" || saw.Calls[1].Nonce != "" {
		t.Errorf("the gate answered %+v, want 401 with a nonce and twice 200 without", saw.Calls)
	}
	if saw.Other.Status != 401 {
		t.Errorf("with another key the answer was %+v, want 401", saw.Other)
	}
	if saw.Bearer.Status != 401 || !strings.Contains(saw.Bearer.Text, `"reason":"wrong_scheme"`) || !strings.HasPrefix(saw.Bearer.Challenge, `DPoP realm="tallygate", error="invalid_token"`) {
		t.Errorf("as a bearer token the answer was %+v, want 401 wrong_scheme and a challenge for DPoP", saw.Bearer)
	}
	if got := reached.Load(); got != 2 {
		t.Errorf("%d requests reached the API, want 2", got)
	}
}
