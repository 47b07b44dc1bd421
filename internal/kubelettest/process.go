package kubelettest

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// A process is a running container.
type process struct {
	Container
	command *exec.Cmd
	log     gatetest.Log
	exited  chan struct{} // closed when the process has ended
	killed  bool          // by SIGKILL after the grace period
}

func startProcess(c Container, argv []string) (*process, error) {
	p := &process{Container: c, command: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = &p.log, &p.log
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	return p, nil
}

// stop sends SIGTERM, and SIGKILL after grace.
func (p *process) stop(grace time.Duration) {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.killed = true
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.command.Process.Signal(os.Kill)
	<-p.exited
}

// preStop runs the hook of the container, for at most grace, and returns how long it took.
func (p *process) preStop(n *Node, pod *Pod, grace time.Duration) time.Duration {
	hook := p.Lifecycle.PreStop
	if hook == nil {
		return 0
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if hook.Exec != nil {
		argv := n.Exec(pod.rewrite(hook.Exec.Command), p.command.Process.Pid)
		// A hook that fails is an event, and the container is stopped as after a successful hook.
		if output, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			pod.event("preStop of %s: %v: %s", p.Name, err, output)
		}
		return time.Since(began)
	}
	select {
	case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
	case <-ctx.Done():
	case <-p.exited:
	}
	return time.Since(began)
}
