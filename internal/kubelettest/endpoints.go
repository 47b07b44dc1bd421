package kubelettest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Endpoints are the pods that a Service sends new connections to.
type Endpoints struct {
	mu    sync.RWMutex // held for reading while a connection is being opened
	pods  []*Pod
	queue []change

	dialing sync.Mutex
	dialed  int
}

// A change puts a pod among the endpoints, or takes it out.
type change struct {
	pod   *Pod
	ready bool
}

// follow makes the change after lag. Changes take effect in the order of the calls.
func (e *Endpoints) follow(c change, lag time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, c)
	time.AfterFunc(lag, e.apply)
}

// apply makes the change that waits longest, when no connection is being opened.
func (e *Endpoints) apply() {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.queue[0]
	e.queue = e.queue[1:]
	e.pods = slices.DeleteFunc(slices.Clone(e.pods), func(p *Pod) bool { return p == c.pod })
	if c.ready {
		e.pods = append(e.pods, c.pod)
	}
}

// Pods returns the pods that get new connections.
func (e *Endpoints) Pods() []*Pod {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Clone(e.pods)
}

// Dial opens a connection to a port of one of the pods, of each in turn.
func (e *Endpoints) Dial(ctx context.Context, port string) (net.Conn, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if len(e.pods) == 0 {
		return nil, errors.New("the Service has no endpoints")
	}
	e.dialing.Lock()
	pod := e.pods[e.dialed%len(e.pods)]
	e.dialed++
	e.dialing.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(pod.IP, port))
}
