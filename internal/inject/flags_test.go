package inject

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestFlags: the error about a value that cannot work names the flag.
func TestFlags(t *testing.T) {
	for line, want := range map[string]string{
		"":                            "--image is required",
		"--image=a[b":                 "",
		"--image=x --config-map=A_b":  "--config-map",
		"--image=x --tls-secret=-":    "--tls-secret",
		"--image=x --port=9090":       "--port must be",
		"--image=x --port=0":          "--port must be",
		"--image=x --app-port=70000":  "--app-port must be",
		"--image=x --drain-delay=-1s": "--drain-delay and --drain-timeout must be",
		"--image=x --metrics-from=A":  `--metrics-from: "A" is no namespace`,
		"--image=x --file=a=secret:b --file=a=configMap:c":           "--file a is there twice",
		"--image=x --file=a=vault:b":                                 "must be NAME=secret:OBJECT",
		"--image=x --file=a/b=secret:b":                              "must be a label",
		"--image=x --file=a=secret:B":                                "is no name of an object",
		"--image=x --file=" + strings.Repeat("a", 48) + "=secret:b":  "must be a label of at most 47",
		"--image=x --network-policy=false --metrics-from=monitoring": "--metrics-from needs --network-policy",
		"--image=x --loopback-env=HOST":                              "must be NAME=VALUE",
		"--image=x --loopback-env=HOST=0.0.0.0":                      "HOST=0.0.0.0 names no loopback address",
		"--image=x --loopback-arg=--listen=10.127.0.0.1:80":          "names no loopback address",
		"--image=x --loopback-arg=--listen=notlocalhost:80":          "names no loopback address",
		"--image=x --loopback-arg=#1=127.0.0.1":                      "must be NAME=VALUE",
		"--image=x --probes=drop":                                    "must be keep or forward",
		"--image=x --loopback-env=URLS=http://127.0.0.1:8080 --loopback-env=A=[::1]:80 --loopback-arg=-b=localhost:80": "",
	} {
		var o Options
		flags := pflag.NewFlagSet("inject", pflag.ContinueOnError)
		o.AddFlags(flags)
		err := flags.Parse(strings.Fields(line))
		if err == nil {
			err = o.Validate()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", line, err, want)
		}
	}
}
