// Package kubelettest starts, probes and stops the containers of a pod as Kubernetes does, with processes on
// loopback in place of containers, so that a test can run a rendered manifest without a cluster. A Node does
// the work of the kubelet, its volumes and kube-proxy.
//
// It follows these rules of Kubernetes: native sidecars start before the containers and stop after them
// (KEP-753); the preStop hooks of all containers run at once, and their time counts against the pod's grace
// period, which never leaves a container less than two seconds; a probe that fails takes the pod out of the
// endpoints, and so does the pod's deletion, both as late as Node.Lag says; Secrets and ConfigMaps are
// swapped by the symbolic link ..data.
package kubelettest

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Spec has the fields of a pod's specification that a Node uses. ReadSpec ignores all other fields.
type Spec struct {
	InitContainers                []Container `yaml:"initContainers"`
	Containers                    []Container `yaml:"containers"`
	Volumes                       []Volume    `yaml:"volumes"`
	TerminationGracePeriodSeconds *int        `yaml:"terminationGracePeriodSeconds"` // nil: 30
}

// A Container is a container of a Spec.
type Container struct {
	Name          string   `yaml:"name"`
	Image         string   `yaml:"image"`
	Command       []string `yaml:"command"`
	Args          []string `yaml:"args"`
	RestartPolicy string   `yaml:"restartPolicy"`
	Ports         []struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
	} `yaml:"ports"`
	VolumeMounts []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
	StartupProbe   *Probe `yaml:"startupProbe"`
	ReadinessProbe *Probe `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop *Hook `yaml:"preStop"`
	} `yaml:"lifecycle"`
}

// A Probe is an HTTP request to the pod.
type Probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"` // a number, or the name of a port of the container
	} `yaml:"httpGet"`
	PeriodSeconds    int `yaml:"periodSeconds"`    // 0: 10
	TimeoutSeconds   int `yaml:"timeoutSeconds"`   // 0: 1
	FailureThreshold int `yaml:"failureThreshold"` // 0: 3
}

// A Hook runs before a container is stopped: a command in the container, or a time to wait.
type Hook struct {
	Exec *struct {
		Command []string `yaml:"command"`
	} `yaml:"exec"`
	Sleep *struct {
		Seconds int `yaml:"seconds"`
	} `yaml:"sleep"`
}

// A Volume is a Secret or a ConfigMap.
type Volume struct {
	Name   string `yaml:"name"`
	Secret *struct {
		SecretName string `yaml:"secretName"`
	} `yaml:"secret"`
	ConfigMap *struct {
		Name string `yaml:"name"`
	} `yaml:"configMap"`
}

// ReadSpec decodes the specification of a pod. It refuses probes and hooks that a Node cannot run.
func ReadSpec(manifest []byte) (*Spec, error) {
	var s Spec
	if err := yaml.Unmarshal(manifest, &s); err != nil {
		return nil, err
	}
	var faults []error
	for _, c := range append(s.InitContainers, s.Containers...) {
		for name, p := range map[string]*Probe{"startupProbe": c.StartupProbe, "readinessProbe": c.ReadinessProbe} {
			if p != nil && p.HTTPGet.Path == "" {
				faults = append(faults, fmt.Errorf("%s: %s is no httpGet", c.Name, name))
			}
		}
		if h := c.Lifecycle.PreStop; h != nil && h.Exec == nil && h.Sleep == nil {
			faults = append(faults, fmt.Errorf("%s: preStop is neither exec nor sleep", c.Name))
		}
	}
	if len(s.Containers) == 0 {
		faults = append(faults, errors.New("the pod has no container"))
	}
	return &s, errors.Join(faults...)
}

// grace returns the time from the deletion of the pod to SIGKILL.
func (s *Spec) grace() time.Duration {
	if s.TerminationGracePeriodSeconds == nil {
		return 30 * time.Second
	}
	return time.Duration(*s.TerminationGracePeriodSeconds) * time.Second
}

// readinessPeriod returns the shortest period of a readiness probe.
func (s *Spec) readinessPeriod() time.Duration {
	period := 10 * time.Second
	for _, c := range append(s.InitContainers, s.Containers...) {
		if c.ReadinessProbe != nil {
			period = min(period, seconds(c.ReadinessProbe.PeriodSeconds, 10))
		}
	}
	return period
}

// object returns the name of a volume's object, as Kind/name.
func (v Volume) object() string {
	switch {
	case v.Secret != nil:
		return "Secret/" + v.Secret.SecretName
	case v.ConfigMap != nil:
		return "ConfigMap/" + v.ConfigMap.Name
	}
	return ""
}

// port returns the number of the probe's port.
func (p *Probe) port(c Container) (string, error) {
	if _, err := strconv.Atoi(p.HTTPGet.Port); err == nil {
		return p.HTTPGet.Port, nil
	}
	for _, port := range c.Ports {
		if port.Name == p.HTTPGet.Port {
			return strconv.Itoa(port.ContainerPort), nil
		}
	}
	return "", fmt.Errorf("%s has no port %q", c.Name, p.HTTPGet.Port)
}
