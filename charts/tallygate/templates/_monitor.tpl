{{/*
An endpoint of a PodMonitor or ServiceMonitor: (list VALUES ROOT). The operator's own job
label is namespace/name; the alert for a gate that is down goes by "tallygate" in it.
*/}}
{{- define "tallygate.endpoint" -}}
{{- $root := index . 1 -}}
{{- with index . 0 -}}
port: metrics
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
relabelings:
  - {targetLabel: job, replacement: {{ printf "tallygate/%s/%s" $root.Release.Namespace (include "tallygate.fullname" $root) | quote }}}
  {{- with .relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
