package inject

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// AddFlags adds the flags of inject to flags. Their values go to o.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Image, "image", "", "the `image` of the gate (required)")
	flags.StringVar(&o.ConfigMap, "config-map", "", "the ConfigMap `name` that has tallygate.yaml (default: WORKLOAD-tallygate)")
	flags.StringVar(&o.TLSSecret, "tls-secret", "", "the Secret `name` of the listener's certificate (default: WORKLOAD-tallygate-tls)")
	flags.Var((*mounts)(&o.Mounts), "file", "mount another object in /etc/tallygate/files/NAME: `NAME=secret:OBJECT` or NAME=configMap:OBJECT; repeatable")
	flags.IntVar(&o.Port, "port", DefaultPort, "the `port` of listener.address in the gate's configuration")
	flags.IntVar(&o.AppPort, "app-port", 0, "the application's `port` (default: the only TCP port that a container names)")
	flags.StringVar(&o.AppContainer, "app-container", "", "the application's container `name` (default: the container with its port)")
	flags.BoolVar(&o.Native, "native", true, "add a native sidecar (Kubernetes 1.29); false: a classic container")
	flags.Var((*pairs)(&o.LoopbackEnv), "loopback-env", "set a variable that binds the application to loopback: `NAME=VALUE`; repeatable")
	flags.Var((*pairs)(&o.LoopbackArgs), "loopback-arg", "set an argument that binds the application to loopback: `NAME=VALUE`; repeatable")
	flags.BoolVar(&o.NetworkPolicy, "network-policy", true, "add a NetworkPolicy that closes all ports but the gate's")
	flags.StringArrayVar(&o.MetricsFrom, "metrics-from", nil, "let a `namespace` reach the gate's metrics through the NetworkPolicy; repeatable")
	flags.Var(&o.Probes, "probes", "keep the application's probes, or forward them by way of the gate (default: forward if the application is bound to loopback)")
	flags.BoolVar(&o.Service, "service", false, "direct the Services of the same input to the gate")
	flags.DurationVar(&o.DrainDelay, "drain-delay", 5*time.Second, "drain.delay of the gate's configuration, a `time`")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", 20*time.Second, "drain.timeout of the gate's configuration, a `time`")
}

var (
	dnsLabel  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dnsName   = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$`)
	loopback  = regexp.MustCompile(`(^|[^0-9A-Za-z.])(127(\.[0-9]{1,3}){3}|::1|localhost)($|[^0-9A-Za-z.])`)
	imageName = regexp.MustCompile(`^[^\s[:cntrl:]]+$`)
)

// Validate returns an error if a value cannot work. The error names the flag of the value.
func (o *Options) Validate() error {
	names := map[string]bool{}
	for _, m := range o.Mounts {
		if names[m.Name] {
			return fmt.Errorf("--file %s is there twice", m.Name)
		}
		names[m.Name] = true
	}
	for _, namespace := range o.MetricsFrom {
		if !dnsLabel.MatchString(namespace) {
			return fmt.Errorf("--metrics-from: %q is no namespace", namespace)
		}
	}
	for _, p := range append(slices.Clone(o.LoopbackEnv), o.LoopbackArgs...) {
		if !loopback.MatchString(p.Value) {
			return fmt.Errorf("%s=%s names no loopback address: 127.0.0.1, ::1 or localhost", p.Name, p.Value)
		}
	}
	switch {
	case o.Image == "":
		return errors.New("--image is required: the image of the gate")
	case !imageName.MatchString(o.Image):
		return fmt.Errorf("--image: %q is no image", o.Image)
	case o.ConfigMap != "" && !dnsName.MatchString(o.ConfigMap):
		return fmt.Errorf("--config-map: %q is no name of a ConfigMap", o.ConfigMap)
	case o.TLSSecret != "" && !dnsName.MatchString(o.TLSSecret):
		return fmt.Errorf("--tls-secret: %q is no name of a Secret", o.TLSSecret)
	case o.Port < 1 || o.Port > 65535 || o.Port == adminPort:
		return fmt.Errorf("--port must be from 1 to 65535, and not %d, which is the admin port", adminPort)
	case o.AppPort < 0 || o.AppPort > 65535:
		return errors.New("--app-port must be from 1 to 65535")
	case min(o.DrainDelay, o.DrainTimeout) < 0 || max(o.DrainDelay, o.DrainTimeout) > 24*time.Hour:
		return errors.New("--drain-delay and --drain-timeout must be from 0s to 24h")
	case len(o.MetricsFrom) > 0 && !o.NetworkPolicy:
		return errors.New("--metrics-from needs --network-policy")
	}
	return nil
}

type mounts []Mount

// Set parses NAME=secret:OBJECT or NAME=configMap:OBJECT.
func (m *mounts) Set(s string) error {
	name, source, _ := strings.Cut(s, "=")
	kind, object, _ := strings.Cut(source, ":")
	added := Mount{Name: name}
	switch kind {
	case "secret":
		added.Secret = object
	case "configMap":
		added.ConfigMap = object
	default:
		return errors.New("must be NAME=secret:OBJECT or NAME=configMap:OBJECT")
	}
	// A volume's name has at most 63 characters: tallygate-files- has 16 of them.
	if !dnsLabel.MatchString(name) || len(name) > 63-len("tallygate-files-") {
		return fmt.Errorf("the name %q must be a label of at most 47 characters: a-z, 0-9 and -", name)
	}
	if !dnsName.MatchString(object) {
		return fmt.Errorf("%q is no name of an object", object)
	}
	*m = append(*m, added)
	return nil
}

// String returns the flag's values.
func (m *mounts) String() string {
	var all []string
	for _, f := range *m {
		if f.Secret != "" {
			all = append(all, f.Name+"=secret:"+f.Secret)
		} else {
			all = append(all, f.Name+"=configMap:"+f.ConfigMap)
		}
	}
	return strings.Join(all, ",")
}

// Type returns the name of the value in the help text.
func (m *mounts) Type() string { return "file" }

type pairs []Pair

// Set parses NAME=VALUE.
func (p *pairs) Set(s string) error {
	name, v, found := strings.Cut(s, "=")
	if !found || name == "" || name[0] == '#' || v == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
		return errors.New("must be NAME=VALUE")
	}
	*p = append(slices.DeleteFunc(*p, func(other Pair) bool { return other.Name == name }), Pair{name, v})
	return nil
}

// String returns the flag's values.
func (p *pairs) String() string {
	var all []string
	for _, pair := range *p {
		all = append(all, pair.Name+"="+pair.Value)
	}
	return strings.Join(all, ",")
}

// Type returns the name of the value in the help text.
func (p *pairs) Type() string { return "pair" }

// Set accepts keep and forward.
func (p *Probes) Set(s string) error {
	if given := Probes(s); given == ProbesKeep || given == ProbesForward {
		*p = given
		return nil
	}
	return fmt.Errorf("must be %s or %s", ProbesKeep, ProbesForward)
}

// String returns the flag's value.
func (p *Probes) String() string { return string(*p) }

// Type returns the name of the value in the help text.
func (p *Probes) Type() string { return "mode" }
