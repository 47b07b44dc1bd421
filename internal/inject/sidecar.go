package inject

import (
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// containerText is the container of charts/tallygate/templates/_pod.tpl; TestInjectedContainer in
// charts/test compares the two.
const containerText = `name: tallygate
image: ""
imagePullPolicy: IfNotPresent
args:
  - serve
  - --config
  - /etc/tallygate/config/tallygate.yaml
ports:
  - {name: partners, containerPort: 0}
  - {name: metrics, containerPort: 9090}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
lifecycle:
  preStop:
    sleep: {seconds: 5}
resources:
  limits: {memory: 512Mi}
  requests: {cpu: 100m, memory: 64Mi}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: tallygate-config, mountPath: /etc/tallygate/config, readOnly: true}
  - {name: tallygate-tls, mountPath: /etc/tallygate/tls, readOnly: true}
`

// parsed returns the value of a text of this package.
func parsed(text string) *yaml.Node {
	n, err := yamledit.Value(text)
	if err != nil {
		panic("inject: " + err.Error()) // the texts are constants
	}
	return n
}

// setKey sets a key of a value that is not yet part of a document.
func setKey(m *yaml.Node, key string, v *yaml.Node) {
	if _, old := yamledit.Get(m, key); old != nil {
		*old = *v
		return
	}
	m.Content = append(m.Content, yamledit.Scalar(key), v)
}

func number(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

// flowMapping returns a mapping in flow style of keys and values in turn.
func flowMapping(content ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: yaml.FlowStyle, Content: content}
}

// gateContainer returns the gate's container. probes are values of serve --application-probe.
func gateContainer(o *Options, probes []string) *yaml.Node {
	c := parsed(containerText)
	setKey(c, "image", yamledit.Scalar(o.Image))
	setKey(items(c, "ports")[0], "containerPort", number(o.Port))
	for _, p := range probes {
		_, args := yamledit.Get(c, "args")
		args.Content = append(args.Content, yamledit.Scalar("--application-probe"), yamledit.Scalar(p))
	}
	_, mounts := yamledit.Get(c, "volumeMounts")
	for _, m := range o.Mounts {
		mounts.Content = append(mounts.Content, flowMapping(
			yamledit.Scalar("name"), yamledit.Scalar(filesVolume(m)),
			yamledit.Scalar("mountPath"), yamledit.Scalar("/etc/tallygate/files/"+m.Name),
			yamledit.Scalar("readOnly"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}))
	}
	mounts.Content = append(mounts.Content, flowMapping(
		yamledit.Scalar("name"), yamledit.Scalar(stateVolume), yamledit.Scalar("mountPath"), yamledit.Scalar("/var/lib/tallygate")))
	if o.Native {
		_, hook := yamledit.Get(value(c, "lifecycle"), "preStop")
		*hook = *parsed(fmt.Sprintf(`exec: {command: [/tallygate, drain, --address, "127.0.0.1:9090", --wait, %ds]}`, o.drainSeconds()))
		setKey(c, "restartPolicy", yamledit.Scalar("Always"))
	}
	return c
}

// stateVolume is the name of the volume for revocations.state. A later configuration may need it, and unlike a
// configuration, a volume cannot be added to a running pod.
const stateVolume = "tallygate-state"

func filesVolume(m Mount) string { return "tallygate-files-" + m.Name }

// gateVolumes returns the volumes of the gate's container, which no other container mounts. A pod's group
// (fsGroup) may read them. In a pod without a group, all users may read them, because the gate could not
// read them otherwise.
func gateVolumes(o *Options, workload string, group bool) []*yaml.Node {
	mode := "0444"
	if group {
		mode = "0440"
	}
	volume := func(name, kind, nameKey, source string) *yaml.Node {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
			yamledit.Scalar("name"), yamledit.Scalar(name),
			yamledit.Scalar(kind), flowMapping(yamledit.Scalar(nameKey), yamledit.Scalar(source),
				yamledit.Scalar("defaultMode"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: mode}),
		}}
	}
	all := []*yaml.Node{
		volume("tallygate-config", "configMap", "name", o.configMap(workload)),
		volume("tallygate-tls", "secret", "secretName", o.tlsSecret(workload)),
	}
	for _, m := range o.Mounts {
		if m.Secret != "" {
			all = append(all, volume(filesVolume(m), "secret", "secretName", m.Secret))
		} else {
			all = append(all, volume(filesVolume(m), "configMap", "name", m.ConfigMap))
		}
	}
	return append(all, parsed("{name: "+stateVolume+", emptyDir: {}}"))
}

func (o *Options) configMap(workload string) string {
	if o.ConfigMap != "" {
		return o.ConfigMap
	}
	return workload + "-tallygate"
}

func (o *Options) tlsSecret(workload string) string {
	if o.TLSSecret != "" {
		return o.TLSSecret
	}
	return workload + "-tallygate-tls"
}
