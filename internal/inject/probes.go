package inject

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// probeKinds are the probes of a container, with the last segment of their paths at the gate.
var probeKinds = []struct{ key, segment string }{
	{"startupProbe", "startup"}, {"livenessProbe", "liveness"}, {"readinessProbe", "readiness"},
}

// toLoopback reports whether the application is bound to loopback by inject.
func (w *workload) toLoopback() bool {
	return len(w.options.LoopbackEnv)+len(w.options.LoopbackArgs) > 0
}

func (w *workload) forwards() bool {
	return w.options.Probes == ProbesForward || w.options.Probes == ProbesDefault && w.toLoopback()
}

// forwardProbes directs the probes of the application's port to the gate's admin listener, because the
// kubelet probes the pod's address, where an application on loopback does not answer.
func (w *workload) forwardProbes() {
	for _, c := range w.all() {
		for _, kind := range probeKinds {
			probe := value(c, kind.key)
			for _, action := range []string{"httpGet", "tcpSocket", "grpc"} {
				if a := value(probe, action); a != nil && w.reachesApplication(c, a) {
					w.forwardProbe(c, kind.key, kind.segment, action)
				}
			}
		}
		w.checkHooks(c)
	}
}

// reachesApplication reports whether the port of action, in container c, is the application's.
func (w *workload) reachesApplication(c, action *yaml.Node) bool {
	if host := text(action, "host"); strings.HasPrefix(host, "127.") || host == "localhost" {
		return false // the node's own loopback
	}
	return w.resolvePort(text(action, "port"), c) == w.appPort
}

// resolvePort returns the number of a port by its number or its name in containers, or 0.
func (w *workload) resolvePort(nameOrNumber string, containers ...*yaml.Node) int {
	if n, ok := integer(nameOrNumber); ok {
		return n
	}
	for _, p := range ports(containers...) {
		if p.name == nameOrNumber && nameOrNumber != "" {
			return p.number
		}
	}
	return 0
}

func (w *workload) forwardProbe(c *yaml.Node, key, segment, action string) {
	name := text(c, "name")
	if !w.forwards() {
		if w.toLoopback() {
			w.say("warning: %s of %s fails once the application listens on loopback only: --probes=forward directs it to the gate", key, name)
		}
		return
	}
	probe := value(c, key)
	actionKey, raw := yamledit.Get(probe, action)
	target, ok := w.probeTarget(key, action, raw)
	if !ok {
		return
	}
	// $(NAME) in an argument would be replaced by a variable's value.
	w.probes = append(w.probes, name+"/"+segment+"="+strings.ReplaceAll(target, "$(", "$$("))
	path := join(w.containerPath(c), key, "httpGet")
	separator := "\n"
	if raw.Style&yaml.FlowStyle != 0 {
		separator = ", "
	}
	content := fmt.Sprintf("path: /application/%s/%s%sport: %d", name, segment, separator, adminPort)
	if separator == ", " {
		content = fmt.Sprintf(`{"path": "/application/%s/%s", "port": %d}`, name, segment, adminPort)
	}
	w.toUndo(step{Restore: path, Text: w.source(raw)})
	w.check(w.object, w.Replace(raw, content))
	if action != "httpGet" {
		w.toUndo(step{Rename: path, Text: action})
		w.check(w.object, w.Replace(actionKey, quotedLike(w.Source(actionKey), "httpGet")))
	}
	w.say("container %s: %s goes to %s by way of the gate", name, key, target)
}

// quotedLike returns text in the quotation marks of a key, as JSON needs them.
func quotedLike(key, text string) string {
	if strings.HasPrefix(key, `"`) {
		return `"` + text + `"`
	}
	return text
}

// probeTarget returns the URL on loopback for a probe's action.
func (w *workload) probeTarget(key, action string, raw *yaml.Node) (target string, ok bool) {
	a, address := resolve(raw), "127.0.0.1:"+strconv.Itoa(w.appPort)
	switch {
	case action == "grpc":
		w.fault(w.object, raw, "%s is a gRPC probe of port %d, which the gate does not forward: use httpGet, tcpSocket or exec, or --probes=keep", key, w.appPort)
	case text(a, "host") != "":
		w.fault(w.object, raw, "%s names a host, which the gate does not forward to: remove host, or use --probes=keep", key)
	case action == "tcpSocket":
		return "tcp://" + address, true
	case strings.EqualFold(text(a, "scheme"), "HTTPS"):
		w.fault(w.object, raw, "%s is an HTTPS probe, which the gate does not forward: use tcpSocket or exec, or --probes=keep", key)
	case len(items(a, "httpHeaders")) > 0:
		w.fault(w.object, raw, "%s has httpHeaders, and the gate forwards a probe without headers: remove them, use exec, or --probes=keep", key)
	default:
		path := text(a, "path")
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		// The gate refuses to start with a URL that it cannot parse.
		if u, err := url.Parse("http://" + address + path); err != nil || u.Fragment != "" || strings.Contains(path, " ") {
			w.fault(w.object, raw, "%s has a path that is no path of a URL: %q", key, path)
			return "", false
		}
		return "http://" + address + path, true
	}
	return "", false
}

// checkHooks refuses hooks that the kubelet could not call any more.
func (w *workload) checkHooks(c *yaml.Node) {
	if !w.toLoopback() {
		return
	}
	for _, hook := range []string{"postStart", "preStop"} {
		action := value(value(value(c, "lifecycle"), hook), "httpGet")
		if action != nil && w.reachesApplication(c, action) {
			w.fault(w.object, action, "lifecycle.%s calls port %d at the pod's address, where an application on loopback does not answer: use exec", hook, w.appPort)
		}
	}
}

// bindToLoopback sets the variables and arguments that bind the application to loopback.
func (w *workload) bindToLoopback() {
	for _, p := range w.options.LoopbackEnv {
		w.setVariable(p)
	}
	for _, p := range w.options.LoopbackArgs {
		w.setArgument(p)
	}
	if !w.toLoopback() {
		w.say("note: the application stays on the pod's address: bind it to loopback with --loopback-env or --loopback-arg where it can be")
	}
}

func (w *workload) setVariable(p Pair) {
	path := join(w.containerPath(w.app), "env")
	isVariable := func(item *yaml.Node) bool { return text(item, "name") == p.Name }
	for i, item := range items(w.app, "env") {
		if !isVariable(item) {
			continue
		}
		if slices.ContainsFunc(items(w.app, "env")[i+1:], isVariable) { // the last one counts
			w.fault(w.object, item, "the variable %s is there twice: remove one", p.Name)
			return
		}
		_, v := yamledit.Get(item, "value")
		if v == nil {
			w.fault(w.object, item, "%s has its value from another source, so --loopback-env cannot set it: write it as value", p.Name)
			return
		}
		w.toUndo(step{Restore: join(path, "#"+strconv.Itoa(i), "value"), Text: w.source(v)})
		w.check(w.object, w.ReplaceFlow(v, yamledit.Scalar(p.Value)))
		w.say("container %s: env %s=%s", text(w.app, "name"), p.Name, p.Value)
		return
	}
	v := yamledit.Scalar(p.Value)
	v.Style = yaml.DoubleQuotedStyle
	item := flowMapping(yamledit.Scalar("name"), yamledit.Scalar(p.Name), yamledit.Scalar("value"), v)
	w.addTo(w.app, w.containerPath(w.app), "env", item)
	w.say("container %s: env %s=%s", text(w.app, "name"), p.Name, p.Value)
}

// setArgument sets an argument of the form NAME=VALUE or, where the container has NAME and the value as
// two arguments, the second. The arguments are in args, or all in command.
func (w *workload) setArgument(p Pair) {
	words := p.Name + "=" + p.Value
	if w.repeats(p.Name) {
		return
	}
	for _, key := range []string{"args", "command"} {
		all := items(w.app, key)
		for i, argument := range all {
			switch second := argument.Value == p.Name && i+1 < len(all); {
			case second:
				w.replaceArgument(key, i+1, all[i+1], p.Value)
			case strings.HasPrefix(argument.Value, p.Name+"="):
				w.replaceArgument(key, i, argument, words)
			default:
				continue
			}
			w.say("container %s: argument %s %s", text(w.app, "name"), p.Name, p.Value)
			return
		}
	}
	key := "args"
	if _, args := yamledit.Get(w.app, key); args == nil {
		key = "command"
	}
	_, raw := yamledit.Get(w.app, key)
	switch {
	case raw == nil:
		w.fault(w.object, w.app, "container %s has no args, and --loopback-arg alone would replace the image's own: write all arguments into args, or use --loopback-env", text(w.app, "name"))
		return
	case w.runsShell():
		w.fault(w.object, raw, "container %s runs a shell, which would get the argument instead of the application: bind the application to loopback in the shell's command, or use --loopback-env", text(w.app, "name"))
		return
	}
	item := yamledit.Scalar(words)
	item.Style = yaml.DoubleQuotedStyle
	w.addTo(w.app, w.containerPath(w.app), key, item)
	w.say("container %s: argument %s", text(w.app, "name"), words)
}

func (w *workload) replaceArgument(key string, i int, argument *yaml.Node, words string) {
	if argument.Value == words {
		return
	}
	w.toUndo(step{Restore: join(w.containerPath(w.app), key, "#"+strconv.Itoa(i)), Text: w.source(argument)})
	w.check(w.object, w.ReplaceFlow(argument, yamledit.Scalar(words)))
}

// repeats records an argument that is there twice, because the application decides which of the two counts.
func (w *workload) repeats(name string) bool {
	found := false
	for _, argument := range append(items(w.app, "args"), items(w.app, "command")...) {
		if argument.Value != name && !strings.HasPrefix(argument.Value, name+"=") {
			continue
		}
		if found {
			w.fault(w.object, argument, "the argument %s is there twice: remove one", name)
			return true
		}
		found = true
	}
	return false
}

// shellCommand are options of a shell with -c among them, such as -ec.
var shellCommand = regexp.MustCompile(`^-[abefhiklmnprstuvxBCEHPT]*c[abefhiklmnprstuvxBCEHPT]*$`)

// runsShell reports whether the container runs a command by sh -c or the like, also behind a program such as
// tini or env.
func (w *workload) runsShell() bool {
	command := append(items(w.app, "command"), items(w.app, "args")...)
	for i, n := range command {
		if strings.HasSuffix(n.Value, "sh") {
			return slices.ContainsFunc(command[i+1:], func(n *yaml.Node) bool { return shellCommand.MatchString(n.Value) })
		}
	}
	return false
}
