package inject

import (
	"fmt"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// stopSleep is the time in seconds that a stopping pod still serves before SIGTERM: preStopSleepSeconds of the
// chart.
const stopSleep = 5

// seconds returns d in seconds, rounded up.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// drainSeconds returns the longest time that the gate takes to drain.
func (o *Options) drainSeconds() int { return seconds(o.DrainDelay) + seconds(o.DrainTimeout) }

// appSleep returns the seconds that the application must serve before its SIGTERM: apiPreStopSeconds of the
// chart. With a native sidecar, these are the seconds until the gate has closed its clients' connections, and
// stopSleep for running requests. A classic sidecar stops at the same time as the application, so these are the
// seconds that the gate may take.
func (o *Options) appSleep() int {
	if o.Native {
		return seconds(o.DrainDelay) + stopSleep
	}
	return stopSleep + o.drainSeconds()
}

// gracePeriod is the least terminationGracePeriodSeconds: 10 seconds more than the stop, since the kubelet's clock
// also runs while it calls the hooks.
func (o *Options) gracePeriod() int { return stopSleep + o.drainSeconds() + 10 }

// sleepBeforeStop lets the application serve until the gate's clients have gone.
func (w *workload) sleepBeforeStop() {
	seconds := w.options.appSleep()
	path, name := w.containerPath(w.app), text(w.app, "name")
	preStop := parsed(fmt.Sprintf("sleep: {seconds: %d}", seconds))
	key, lifecycle := yamledit.Get(w.app, "lifecycle")
	switch {
	case key == nil:
		w.check(w.object, w.Add(w.app, "lifecycle", &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{yamledit.Scalar("preStop"), preStop}}))
		w.toUndo(step{Remove: join(path, "lifecycle", "preStop")})
	case value(w.app, "lifecycle") != nil && value(value(w.app, "lifecycle"), "preStop") == nil:
		w.check(w.object, w.Add(lifecycle, "preStop", preStop))
		w.toUndo(step{Remove: join(path, "lifecycle", "preStop"), Keep: true})
	default:
		w.say("container %s keeps its preStop: it should let the application serve for %d seconds more", name, seconds)
		return
	}
	w.say("container %s: preStop sleeps %d seconds", name, seconds)
}

// extendGracePeriod gives the pod the time to stop.
func (w *workload) extendGracePeriod() {
	const key, standard = "terminationGracePeriodSeconds", 30
	needed := w.options.gracePeriod()
	_, n := yamledit.Get(w.pod, key)
	if n == nil {
		if needed > standard {
			w.check(w.object, w.Add(w.pod, key, number(needed)))
			w.toUndo(step{Remove: join(podPath, key)})
			w.say("%s: %d", key, needed)
		}
		return
	}
	current, ok := integer(resolve(n).Value)
	if !ok {
		w.fault(w.object, n, "%s is no number", key)
		return
	}
	if current >= needed {
		return
	}
	w.toUndo(step{Restore: join(podPath, key), Text: w.source(n)})
	w.check(w.object, w.Replace(n, strconv.Itoa(needed)))
	w.say("%s: %d instead of %d", key, needed, current)
}
