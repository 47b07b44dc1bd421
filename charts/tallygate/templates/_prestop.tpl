{{/*
The gate's preStop hook. A native sidecar gets SIGTERM when the pod's other containers have ended, so it must
begin to drain before: otherwise clients continue to send requests, on their open connections, to an API that
has ended. Elsewhere SIGTERM follows the hook, and the gate drains then.
*/}}
{{- define "tallygate.preStop" -}}
{{- if and (eq .Values.mode "sidecar") .Values.sidecar.native -}}
exec: {command: [/tallygate, drain, --address, "127.0.0.1:9090", --wait, {{ include "tallygate.drainSeconds" . }}s]}
{{- else if include "tallygate.sleepSeconds" . | int -}}
sleep: {seconds: {{ include "tallygate.sleepSeconds" . }}}
{{- end -}}
{{- end -}}

{{/*
How long the API in a sidecar's pod must go on before SIGTERM, in seconds, for its own preStop hook. Before a
native sidecar: until the gate has closed its clients' connections, and preStopSleepSeconds for requests
that run. Before a classic one: as long as the gate may take to stop.
*/}}
{{- define "tallygate.apiPreStopSeconds" -}}
{{- if .Values.sidecar.native -}}
{{- add (include "tallygate.drainDelaySeconds" .) (int .Values.preStopSleepSeconds) -}}
{{- else -}}
{{- include "tallygate.stopSeconds" . -}}
{{- end -}}
{{- end -}}
