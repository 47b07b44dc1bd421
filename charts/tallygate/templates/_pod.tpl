{{/*
What the gate is in a pod. The gateway's Deployment and the templates for other charts'
pods are made of the same parts.
*/}}
{{- define "tallygate.container" -}}
name: tallygate
image: {{ include "tallygate.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - serve
  - --config
  - /etc/tallygate/config/tallygate.yaml
  {{- with .Values.extraArgs }}
  {{- include "tallygate.tpl" (list . $) | nindent 2 }}
  {{- end }}
{{- with include "tallygate.env" . }}
env:
  {{- . | nindent 2 }}
{{- end }}
ports:
  - {name: partners, containerPort: 8443}
  {{- with .Values.config.issuer }}
  - {name: issuer, containerPort: 9443}
  {{- if .mtls_alias }}
  - {name: issuer-mtls, containerPort: 9444}
  {{- end }}
  {{- end }}
  - {name: metrics, containerPort: 9090}
# Alive, not ready: what waits for the gate to start should not wait for its
# authorization servers.
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
{{- with include "tallygate.preStop" . }}
lifecycle:
  preStop:
    {{- . | nindent 4 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "tallygate.withoutEmpty" .Values.containerSecurityContext }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
# Whole volumes and never a subPath: the gate then sees it when one changes.
volumeMounts:
  - {name: tallygate-config, mountPath: /etc/tallygate/config, readOnly: true}
  - {name: tallygate-tls, mountPath: /etc/tallygate/tls, readOnly: true}
  {{- range $name, $_ := .Values.files }}
  - {name: tallygate-files-{{ $name }}, mountPath: /etc/tallygate/files/{{ $name }}, readOnly: true}
  {{- end }}
  {{- if include "tallygate.stateVolume" . }}
  - {name: tallygate-state, mountPath: /var/lib/tallygate}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- include "tallygate.tpl" (list . $) | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "tallygate.image" -}}
{{- with .Values.image -}}
{{- ternary (printf "%s@%s" .repository .digest) (printf "%s:%s" .repository .tag) (not (empty .digest)) -}}
{{- end -}}
{{- end -}}

{{/* The elements of env: those with plain values first, so that the others may refer to them. */}}
{{- define "tallygate.env" -}}
{{- $env := list -}}
{{- range $name, $value := .Values.env -}}
  {{- $env = append $env (dict "name" $name "value" $value) -}}
{{- end -}}
{{- with concat $env .Values.extraEnv -}}
{{- include "tallygate.tpl" (list . $) -}}
{{- end -}}
{{- end -}}

{{/*
A map as YAML, without the keys whose value is null or "". Empty for an empty map. Helm 4
ignores a null for a subchart in the values.yaml of its parent, so null is not enough.
*/}}
{{- define "tallygate.withoutEmpty" -}}
{{- $some := dict -}}
{{- range $key, $value := . -}}
  {{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) -}}
    {{- $_ := set $some $key $value -}}
  {{- end -}}
{{- end -}}
{{- with $some -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* The volumes of a pod with the gate. No other container mounts those of the gate. */}}
{{- define "tallygate.volumes" -}}
{{- $mode := .Values.fileMode -}}
- name: tallygate-config
  configMap: {name: {{ include "tallygate.fullname" . }}, defaultMode: {{ $mode }}}
- name: tallygate-tls
  secret: {secretName: {{ include "tallygate.certificateSecret" . | quote }}, defaultMode: {{ $mode }}}
{{- range $name, $file := .Values.files }}
- name: tallygate-files-{{ $name }}
  {{- if $file.secret }}
  secret: {secretName: {{ tpl $file.secret $ | quote }}, defaultMode: {{ $mode }}}
  {{- else }}
  configMap: {name: {{ tpl $file.configMap $ | quote }}, defaultMode: {{ $mode }}}
  {{- end }}
{{- end }}
{{- with include "tallygate.stateVolume" . }}
- name: tallygate-state
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ include "tallygate.tpl" (list . $) }}
{{- end }}
{{- end -}}

{{/*
The volume at /var/lib/tallygate: a claim for an issuer's state, or an emptyDir for config.revocations.state, which an
issuer can restore. A sidecar always has it, because a later configuration may need it. Empty if there is no volume.
*/}}
{{- define "tallygate.stateVolume" -}}
{{- if and (include "tallygate.stateFolder" .) (not .Values.state.insecureEphemeral) -}}
persistentVolumeClaim: {claimName: {{ .Values.state.existingClaim | default (printf "%s-state" (include "tallygate.fullname" .)) | quote }}}
{{- else if or (include "tallygate.stateFolder" .) .Values.config.revocations (eq .Values.mode "sidecar") -}}
emptyDir: {}
{{- end -}}
{{- end -}}

{{/* Empty, or what replaces the pods when the configuration changes. */}}
{{- define "tallygate.podAnnotations" -}}
{{- if .Values.restartOnConfigChange -}}
checksum/tallygate: {{ include "tallygate.config" . | sha256sum }}
{{- end -}}
{{- end -}}

{{/*
The gate as an element of another chart's list: of a pod's initContainers or, with
sidecar.native: false, of its containers. Call it with .Subcharts.tallygate.
*/}}
{{- define "tallygate.sidecar" -}}
{{- if ne (.Values.mode | default "") "sidecar" -}}
  {{- fail "tallygate.sidecar: set mode: sidecar for the tallygate chart, and call the template with .Subcharts.tallygate" -}}
{{- end -}}
- {{ include "tallygate.container" . | indent 2 | trim }}
{{- if .Values.sidecar.native }}
  restartPolicy: Always
{{- end }}
{{- end -}}
