package proof

import (
	"crypto/rsa"
	"math/big"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
)

// The proof of RFC 9449 section 5 is accepted at its time and at its URL alone, and has the thumbprint
// of section 6.1. The proof of section 7.1 is for another URL.
func TestRFC9449Example(t *testing.T) {
	const (
		header = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19."
		proof  = header + "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
		other  = header + "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
		want   = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	)
	at := time.Unix(1562262616, 0)
	settings := config.Default().DPoP
	c := New(settings, "https://as.example.com/token", "https://server.example.com/token")
	if got, err := c.Thumbprint([]string{proof}, at); err != nil || got != want {
		t.Fatalf("Thumbprint = %q, %v, want %q", got, err, want)
	}
	none := settings
	none.Algorithms = nil
	for name, tt := range map[string]struct {
		c      *Checker
		proofs []string
		at     time.Time
	}{
		"another endpoint":     {New(settings, "https://as.example.com/token"), []string{proof}, at},
		"another proof":        {c, []string{other}, at},
		"61 seconds later":     {c, []string{proof}, at.Add(61 * time.Second)},
		"6 seconds earlier":    {c, []string{proof}, at.Add(-6 * time.Second)},
		"no proof":             {c, nil, at},
		"two proofs":           {c, []string{proof, proof}, at},
		"cut":                  {c, []string{proof[:len(proof)-1]}, at},
		"no algorithms at all": {New(none, "https://server.example.com/token"), []string{proof}, at},
	} {
		if got, err := tt.c.Thumbprint(tt.proofs, tt.at); err == nil || got != "" {
			t.Errorf("%s: Thumbprint = %q, %v, want an error", name, got, err)
		}
	}
}

// The gate accepts no other RSA keys, so the issuer binds no token to any other RSA key.
func TestRSABounds(t *testing.T) {
	for _, tt := range []struct {
		bits, e int
		want    bool
	}{{2048, 65537, true}, {4096, 65537, true}, {4097, 65537, false}, {8192, 65537, false}, {2048, 65539, false}, {2048, 1<<31 - 1, false}} {
		public := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), tt.bits-1, 1), E: tt.e}
		if got := fits(public, "PS256"); got != tt.want {
			t.Errorf("%d bits and exponent %d: %t, want %t", tt.bits, tt.e, got, tt.want)
		}
	}
}
