{{/*
Names and labels. Those of a pod are one label, so that the pods of another chart can have
it too: whatever selects the gate's pods selects by it.
*/}}
{{- define "tallygate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 48 characters: "-tls" and the like follow, and 63 is the most for a label. */}}
{{- define "tallygate.fullname" -}}
{{- $name := include "tallygate.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{- define "tallygate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "tallygate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "tallygate.podLabels" -}}
tallygate: {{ include "tallygate.fullname" . }}
{{- end -}}

{{- define "tallygate.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "tallygate.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "tallygate.certificateSecret" -}}
{{- .Values.certificate.existingSecret | default (printf "%s-tls" (include "tallygate.fullname" .)) -}}
{{- end -}}
