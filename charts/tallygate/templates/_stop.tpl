{{/*
How long the gate takes to stop: drain.delay and drain.timeout of its configuration, with
the gate's defaults.
*/}}
{{- define "tallygate.drainSeconds" -}}
{{- $drain := .Values.config.drain | default dict -}}
{{- $timeout := ternary $drain.timeout "20s" (hasKey $drain "timeout") -}}
{{- add (include "tallygate.drainDelaySeconds" .) (include "tallygate.seconds" (list "config.drain.timeout" $timeout)) -}}
{{- end -}}

{{- define "tallygate.drainDelaySeconds" -}}
{{- $drain := .Values.config.drain | default dict -}}
{{- $delay := ternary $drain.delay "5s" (hasKey $drain "delay") -}}
{{- include "tallygate.seconds" (list "config.drain.delay" $delay) -}}
{{- end -}}

{{/*
The seconds in a duration of Go, rounded up: (list NAME DURATION). Helm has no function for
it, but one that moves a date.
*/}}
{{- define "tallygate.seconds" -}}
{{- $duration := index . 1 | toString -}}
{{- if not (regexMatch "^(0|([0-9]+([.][0-9]*)?(h|m|s|ms|us|µs|ns))+)$" $duration) -}}
  {{- fail (printf "%s: %q is no duration such as 90s or 1m30s" (index . 0) $duration) -}}
{{- end -}}
{{- $start := toDate "2006-01-02" "2000-01-01" -}}
{{- sub ($start | mustDateModify $duration | mustDateModify "999ms" | unixEpoch) ($start | unixEpoch) -}}
{{- end -}}

{{/* The sleep action is on by default since Kubernetes 1.30; the image has no other. */}}
{{- define "tallygate.sleepSeconds" -}}
{{- ternary (int .Values.preStopSleepSeconds) 0 (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- end -}}

{{/* From the beginning of a pod's stop: the sleep before SIGTERM, and the gate's own time. */}}
{{- define "tallygate.stopSeconds" -}}
{{- add (include "tallygate.sleepSeconds" .) (include "tallygate.drainSeconds" .) -}}
{{- end -}}

{{/* For the pod: 10 seconds more, since the kubelet's clock also runs while it calls the hooks. */}}
{{- define "tallygate.terminationGracePeriodSeconds" -}}
{{- $stop := include "tallygate.stopSeconds" . | int -}}
{{- $grace := .Values.terminationGracePeriodSeconds | default (add $stop 10) | int -}}
{{- if le $grace $stop -}}
  {{- fail (printf "terminationGracePeriodSeconds is %d and must be more than %d: preStopSleepSeconds (%s), config.drain.delay and config.drain.timeout (%s). Leave it out to have it computed" $grace $stop (include "tallygate.sleepSeconds" .) (include "tallygate.drainSeconds" .)) -}}
{{- end -}}
{{- $grace -}}
{{- end -}}
