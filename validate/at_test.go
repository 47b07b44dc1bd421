package validate

import (
	"net/http"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// With At, tokens are judged as of that time, and fetched keys by their age now: a key set does not get
// stale by a question about next month.
func TestAt(t *testing.T) {
	key, a := testpki.NewSigner("ES256", "k1"), newAuthority(t)
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(testpki.KeySet(key))
	})
	fetched := func(s *config.AuthorizationServer) {
		a.introspectedBy(config.BothKinds)(s)
		s.KeySet.URL, s.Introspection, s.Tokens = s.Introspection.Endpoint, nil, config.JWTOnly
	}
	now := time.Now()
	raw := key.Token(bound(M{"nbf": now.AddDate(0, 1, 0).Unix(), "exp": now.AddDate(0, 2, 0).Unix()}))
	for _, c := range []struct {
		at   time.Time
		want access.Reason
	}{
		{time.Time{}, access.NotYetValid},
		{now.AddDate(0, 1, 1), access.Granted},
		{now.AddDate(0, 2, 1), access.Expired},
		{now.AddDate(0, -1, 0), access.NotYetValid},
	} {
		v := newValidator(t, Options{At: c.at}, gatetest.AuthorizationServer(fetched))
		if err := v.RefreshOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, v, raw, partner, c.want)
	}
}
