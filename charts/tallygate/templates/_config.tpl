{{/*
The gate's configuration: values.config, with what belongs to the pod set here. What the
chart sets may not be set, or it would silently be another.
*/}}
{{- define "tallygate.config" -}}
{{- include "tallygate.check" . -}}
{{- $config := deepCopy .Values.config -}}
{{- include "tallygate.set" (list $config "listener" "address" ":8443") -}}
{{- include "tallygate.set" (list $config "listener" "certificate" (dict "files" (dict
      "certificate" "/etc/tallygate/tls/tls.crt" "key" "/etc/tallygate/tls/tls.key"))) -}}
{{- include "tallygate.set" (list $config "admin" "address" ":9090") -}}
{{- if $config.issuer -}}
  {{- include "tallygate.set" (list $config "issuer" "address" ":9443") -}}
  {{- if include "tallygate.stateFolder" . -}}
    {{- include "tallygate.set" (list $config "issuer" "state" "/var/lib/tallygate/issuer") -}}
  {{- end -}}
  {{- with $config.issuer.mtls_alias -}}
    {{- if hasKey . "address" -}}
      {{- fail "config.issuer.mtls_alias.address is set by the chart: leave it out" -}}
    {{- end -}}
    {{- $_ := set . "address" ":9444" -}}
  {{- end -}}
{{- end -}}
{{- if $config.revocations -}}
  {{- include "tallygate.set" (list $config "revocations" "state" "/var/lib/tallygate/revocations") -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Sets one key of one section of a configuration: (list CONFIG SECTION KEY VALUE). */}}
{{- define "tallygate.set" -}}
{{- $config := index . 0 -}}{{- $section := index . 1 -}}{{- $key := index . 2 -}}
{{- if not (get $config $section) -}}
  {{- $_ := set $config $section dict -}}
{{- end -}}
{{- if hasKey (get $config $section) $key -}}
  {{- fail (printf "config.%s.%s is set by the chart: leave it out" $section $key) -}}
{{- end -}}
{{- $_ := set (get $config $section) $key (index . 3) -}}
{{- end -}}

{{/* Not empty if an issuer keeps its state in a folder, which ends at one process, and not in a database. */}}
{{- define "tallygate.stateFolder" -}}
{{- with .Values.config.issuer -}}
{{- if not .database -}}true{{- end -}}
{{- end -}}
{{- end -}}
