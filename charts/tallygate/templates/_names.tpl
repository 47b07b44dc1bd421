{{/*
Names and labels. Those of a pod are one label, so that the pods of another chart can have
it too: whatever selects the gate's pods selects by it.
*/}}
{{- define "tallygate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 48 characters: "-metrics" and the like follow, and 63 is the most for a label. */}}
{{- define "tallygate.fullname" -}}
{{- $name := include "tallygate.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{/* What is the same for an object of the release and for a gateway's pods. */}}
{{- define "tallygate.commonLabels" -}}
app.kubernetes.io/name: {{ include "tallygate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
{{- end -}}

{{- define "tallygate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tallygate.commonLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "tallygate.podLabels" -}}
tallygate: {{ include "tallygate.fullname" . }}
{{- end -}}

{{/*
The metadata of an object: (dict "root" $), and where the object has more than others
"suffix" of the name or "name", "namespace", "labels" and "annotations". The chart's own
labels win.
*/}}
{{- define "tallygate.metadata" -}}
{{- $root := .root -}}
name: {{ .name | default (printf "%s%s" (include "tallygate.fullname" $root) (.suffix | default "")) }}
namespace: {{ .namespace | default $root.Release.Namespace }}
labels:
  {{- $further := merge (dict) (.labels | default dict) (include "tallygate.tpl" (list $root.Values.commonLabels $root) | fromYaml) }}
  {{- merge (include "tallygate.labels" $root | fromYaml) $further | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) (include "tallygate.tpl" (list $root.Values.commonAnnotations $root) | fromYaml) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A value as YAML, with the templates in its texts executed: (list VALUE ROOT). */}}
{{- define "tallygate.tpl" -}}
{{- tpl (toYaml (index . 0)) (index . 1) -}}
{{- end -}}

{{- define "tallygate.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "tallygate.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "tallygate.certificateSecret" -}}
{{- tpl .Values.certificate.existingSecret . | default (printf "%s-tls" (include "tallygate.fullname" .)) -}}
{{- end -}}
