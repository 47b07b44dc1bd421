package authorize

import (
	"net/http"
	"testing"
)

func TestAsksForUpgrade(t *testing.T) {
	tests := []struct {
		header http.Header
		want   bool
	}{
		{http.Header{}, false},
		{http.Header{"Connection": {"keep-alive"}}, false},
		{http.Header{"Connection": {"close, x-upgraded"}}, false},
		{http.Header{"Connection": {"keep-alive", "close,\tUpGrade "}}, true},
		{http.Header{"Upgrade": {""}}, true},
		{http.Header{"Upgrade": {"h2c"}}, true},
		{http.Header{"Http2-Settings": {"AAMA"}}, true},
	}
	for _, tt := range tests {
		if got := AsksForUpgrade(&http.Request{Header: tt.header}); got != tt.want {
			t.Errorf("AsksForUpgrade(%v) = %v", tt.header, got)
		}
	}
}
