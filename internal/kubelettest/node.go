package kubelettest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Node runs pods. Its fields are set before the first pod starts.
type Node struct {
	Dir         string              // the folder for the files of the pods
	Entrypoints map[string][]string // the entry points of images, by the name in a container
	// Exec returns the command line of a command that runs in the container whose first process is pid.
	Exec func(argv []string, pid int) []string
	// Rewrite returns the replacements that put a pod into the folder root and at the address ip: in
	// command lines and in the files of volumes.
	Rewrite func(root, ip string) *strings.Replacer
	Network string // the first three bytes of the pods' addresses, such as 127.1.2
	// Lag is how long after a change of readiness, or a deletion, the endpoints follow.
	Lag time.Duration
	// ProbesPerPeriod is the number of probes of a starting container in one period of its probe. It
	// shortens the start of a pod; all other times stay.
	ProbesPerPeriod int

	Endpoints Endpoints

	mu      sync.Mutex
	objects map[string]map[string][]byte // by Kind/name
	pods    map[*Pod]bool                // the pods that have not ended
	started int
}

// A Pod is a pod of a Node.
type Pod struct {
	IP   string
	Root string // the folder that stands for the containers' file systems
	Spec *Spec

	replacer   *strings.Replacer
	mu         sync.Mutex
	events     []string
	containers []*process // in the order of their start
	deleted    chan struct{}
}

// Apply creates or replaces a Secret or ConfigMap, object being Kind/name, and swaps the files in the volumes of all
// pods.
func (n *Node) Apply(object string, files map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.objects == nil {
		n.objects = map[string]map[string][]byte{}
	}
	n.objects[object] = files
	var faults []error
	for p := range n.pods {
		faults = append(faults, n.mount(p, object))
	}
	return errors.Join(faults...)
}

// mount writes an object into the pod's volumes. If object is "", it writes every object.
func (n *Node) mount(p *Pod, object string) error {
	for _, v := range p.Spec.Volumes {
		name := v.object()
		if name == "" || object != "" && name != object {
			continue
		}
		files, there := n.objects[name]
		if !there {
			return fmt.Errorf("volume %s: there is no %s", v.Name, name)
		}
		rewritten := map[string][]byte{}
		for file, content := range files {
			rewritten[file] = []byte(p.replacer.Replace(string(content)))
		}
		for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
			for _, m := range c.VolumeMounts {
				if m.Name != v.Name {
					continue
				}
				if err := publish(filepath.Join(p.Root, m.MountPath), rewritten); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Run starts a pod and returns when it is ready. The endpoints follow later.
func (n *Node) Run(ctx context.Context, spec *Spec) (*Pod, error) {
	n.mu.Lock()
	n.started++
	number := strconv.Itoa(n.started)
	p := &Pod{Spec: spec, IP: n.Network + "." + number, Root: filepath.Join(n.Dir, number), deleted: make(chan struct{})}
	p.replacer = n.Rewrite(p.Root, p.IP)
	if n.pods == nil {
		n.pods = map[*Pod]bool{}
	}
	n.pods[p] = true
	err := n.mount(p, "")
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		if err := n.start(ctx, p, c); err != nil {
			return nil, err
		}
	}
	for !p.ready(ctx) {
		if err := p.pause(ctx, n.hastened(spec.readinessPeriod())); err != nil {
			return nil, fmt.Errorf("%w: the pod is not ready\n%s", err, p.Log())
		}
	}
	n.Endpoints.follow(change{p, true}, n.Lag)
	go n.follow(p)
	return p, nil
}

// start starts a container. The containers after a native sidecar start when its startup probe has succeeded.
func (n *Node) start(ctx context.Context, p *Pod, c Container) error {
	argv := p.rewrite(c.Command)
	if len(argv) == 0 {
		argv = n.Entrypoints[c.Image]
	}
	if len(argv) == 0 {
		return fmt.Errorf("%s: image %s has no entry point", c.Name, c.Image)
	}
	running, err := startProcess(c, append(argv[:len(argv):len(argv)], p.rewrite(c.Args)...))
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.containers = append(p.containers, running)
	p.mu.Unlock()
	if c.StartupProbe == nil {
		return nil
	}
	period, most := seconds(c.StartupProbe.PeriodSeconds, 10), cmp.Or(c.StartupProbe.FailureThreshold, 3)*max(n.ProbesPerPeriod, 1)
	for range most {
		if p.probe(ctx, c, c.StartupProbe) == nil {
			return nil
		}
		if err := p.pause(ctx, n.hastened(period)); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s has not started in %d probes\n%s", c.Name, most, p.Log())
}

// follow updates the endpoints with the readiness of a pod until the pod is deleted.
func (n *Node) follow(p *Pod) {
	for was := true; ; {
		select {
		case <-p.deleted:
			return
		case <-time.After(n.hastened(p.Spec.readinessPeriod())):
		}
		if ready := p.ready(context.Background()); ready != was && !isClosed(p.deleted) {
			n.Endpoints.follow(change{p, ready}, n.Lag)
			was = ready
		}
	}
}

// hastened returns the pause between two probes of a starting container. d is their period.
func (n *Node) hastened(d time.Duration) time.Duration {
	return d / time.Duration(max(n.ProbesPerPeriod, 1))
}

// ready reports whether each readiness probe succeeds once.
func (p *Pod) ready(ctx context.Context) bool {
	for _, c := range p.all() {
		if isClosed(c.exited) || c.ReadinessProbe != nil && p.probe(ctx, c.Container, c.ReadinessProbe) != nil {
			return false
		}
	}
	return true
}

func (p *Pod) probe(ctx context.Context, c Container, probe *Probe) error {
	port, err := probe.port(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, seconds(probe.TimeoutSeconds, 1))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(p.IP, port)+probe.HTTPGet.Path, nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusBadRequest {
		return errors.New(answer.Status)
	}
	return nil
}

// pause waits for d, and returns an error if ctx or a container ends before.
func (p *Pod) pause(ctx context.Context, d time.Duration) error {
	for _, c := range p.all() {
		if isClosed(c.exited) {
			return fmt.Errorf("%s has ended\n%s", c.Name, p.Log())
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (p *Pod) all() []*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*process(nil), p.containers...)
}

func (p *Pod) rewrite(argv []string) (rewritten []string) {
	for _, a := range argv {
		rewritten = append(rewritten, p.replacer.Replace(a))
	}
	return rewritten
}

func (p *Pod) event(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, fmt.Sprintf(format, args...))
}

// Events returns the failures during the stop of the pod.
func (p *Pod) Events() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.events...)
}

// Log returns the output of the containers.
func (p *Pod) Log() string {
	var b strings.Builder
	for _, c := range p.all() {
		fmt.Fprintf(&b, "-- %s --\n%s", c.Name, c.log.Bytes())
	}
	return b.String()
}

func seconds(n, otherwise int) time.Duration {
	if n == 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
