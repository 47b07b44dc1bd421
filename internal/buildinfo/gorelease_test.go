package buildinfo

import "testing"

func TestOutdated(t *testing.T) {
	for release, want := range map[string]string{
		"go1.26.8": "go1.26.10", "go1.26.9": "go1.26.10", "go1.26.10": "", "go1.26.11": "",
		"go1.26": "go1.26.10", "go1.26rc2": "go1.26.10", "go1.25.30": "go1.26.10", "go1.9": "go1.26.10",
		"go1.27.0": "go1.27.3", "go1.27rc1": "go1.27.3", "go1.27.3": "", "go1.28.0": "", "go2.0.0": "",
		"go1.26.8 X:nodwarf5": "go1.26.10", "go1.26.8-acme": "go1.26.10", "go1.26.10 X:nodwarf5": "",
		"devel go1.28-abcdef": "", "": "", "unknown": "",
	} {
		if got := Outdated(release); got != want {
			t.Errorf("outdated(%q) = %q, want %q", release, got, want)
		}
	}
}

// Before Go 1.27, golang.org/x/net has its own HTTP/2 server, which does not need the small table.
func TestEncoderTable(t *testing.T) {
	for release, want := range map[string]int{
		"go1.26.8": 0, "go1.26.10": 0, "go1.27rc1": 1, "go1.27.0": 1, "go1.27.2": 1, "go1.27.3": 0, "go1.28.0": 0, "devel go1.28-abcdef": 0,
	} {
		if got := HTTP2EncoderTableSize(release); got != want {
			t.Errorf("encoderTable(%q) = %d, want %d", release, got, want)
		}
	}
}
