package kubelettest

import (
	"slices"
	"sync"
	"time"
)

// leastGrace is the time from SIGTERM to SIGKILL that a container gets even if its hook has used the grace
// period.
const leastGrace = 2 * time.Second

// Delete stops a pod as the kubelet does, and returns when its containers have ended. The endpoints lose the
// pod n.Lag after the deletion. p.Events has the failures of the stop.
func (n *Node) Delete(p *Pod) {
	close(p.deleted)
	n.Endpoints.follow(change{p, false}, n.Lag)
	containers := p.all()
	var stopping sync.WaitGroup
	for i, c := range containers {
		// A sidecar stops after the containers, and after the sidecars that started later.
		var after []*process
		if c.sidecar() {
			after = containers[i+1:]
		}
		stopping.Go(func() { n.stop(p, c, after) })
	}
	stopping.Wait()
	n.mu.Lock()
	delete(n.pods, p)
	n.mu.Unlock()
}

// stop runs the container's hook, waits for the containers that end before it, and ends it.
func (n *Node) stop(p *Pod, c *process, after []*process) {
	grace := p.Spec.grace()
	grace -= c.preStop(n, p, grace)
	turn := time.Now()
	for _, other := range after {
		select {
		case <-other.exited:
		case <-time.After(max(grace-time.Since(turn), 0)):
		}
	}
	c.stop(max(grace-time.Since(turn), leastGrace))
	switch {
	case c.killed:
		p.event("%s was killed after the grace period of %s", c.Name, p.Spec.grace())
	case c.command.ProcessState.ExitCode() > 0:
		p.event("%s ended with %d", c.Name, c.command.ProcessState.ExitCode())
	}
}

// sidecar reports whether the container is a native sidecar.
func (c Container) sidecar() bool { return c.RestartPolicy == "Always" }

// Kill ends all pods at once. It is for the end of a test.
func (n *Node) Kill() {
	n.mu.Lock()
	var pods []*Pod
	for p := range n.pods {
		pods = append(pods, p)
	}
	n.mu.Unlock()
	for _, p := range pods {
		if !isClosed(p.deleted) {
			close(p.deleted)
		}
		for _, c := range slices.Backward(p.all()) {
			c.kill()
		}
	}
}
