package access

import (
	"errors"
	"fmt"
	"testing"
)

func TestDeny(t *testing.T) {
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
			if d := Deny(tt.err); d.Reason != tt.want {
				t.Errorf("Deny gives %s, want %s", d.Reason, tt.want)
			}
			if got := fmt.Sprint(tt.err); got != tt.text {
				t.Errorf("the error reads %q, want %q", got, tt.text)
			}
		})
	}
}

func TestDenyKeepsTheClient(t *testing.T) {
	d := Deny(fmt.Errorf("judging: %w", &Denial{Reason: Expired, ClientID: "ledger"}))
	if d.ClientID != "ledger" || d.Claims.ClientID != "" {
		t.Errorf("Deny gives client %q and claims of %q", d.ClientID, d.Claims.ClientID)
	}
}
