package access

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecisionOf(t *testing.T) {
	detail := errors.New("detail")
	tests := []struct {
		name string
		err  error
		want Reason
		text string
	}{
		{"a denial", &Denial{Reason: Expired, Err: detail}, Expired, "expired: detail"},
		{"a wrapped denial", fmt.Errorf("checking: %w", &Denial{Reason: NoToken}), NoToken, "checking: no_token"},
		{"no denial at all", detail, Undecided, "detail"},
		{"nothing", nil, Undecided, "<nil>"},
		{"a denial that grants", &Denial{Reason: Granted}, Undecided, "granted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := DecisionOf(tt.err); d.Reason != tt.want {
				t.Errorf("DecisionOf(%v) = %s, want %s", tt.err, d.Reason, tt.want)
			}
			if got := fmt.Sprint(tt.err); got != tt.text {
				t.Errorf("Error() = %q, want %q", got, tt.text)
			}
		})
	}
}

func TestDecisionOfKeepsTheClient(t *testing.T) {
	d := DecisionOf(fmt.Errorf("judging: %w", &Denial{Reason: Expired, ClientID: "ledger"}))
	if d.ClientID != "ledger" || d.Claims.ClientID != "" {
		t.Errorf("DecisionOf: client %q and claims of client %q, want \"ledger\" and none", d.ClientID, d.Claims.ClientID)
	}
}

func TestTruncate(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("a", 256)} {
		if got := Truncate(s); got != s {
			t.Errorf("Truncate(%q) = %q, want it unchanged", s, got)
		}
	}
	for _, s := range []string{strings.Repeat("a", 257), strings.Repeat("é", 200), strings.Repeat("a", 255) + "世界", strings.Repeat("x", 1<<20)} {
		if got := Truncate(s); len(got) > 260 || !strings.HasSuffix(got, "…") || !utf8.ValidString(got) {
			t.Errorf("Truncate of %d bytes = %q, want at most 260 bytes of UTF-8 that end with …", len(s), got)
		}
	}
}
