{{/*
What the schema cannot say. Every template of the chart that makes a manifest begins with
it by way of tallygate.config.
*/}}
{{- define "tallygate.check" -}}
{{- $v := .Values -}}
{{- if not $v.image.repository -}}
  {{- fail "image.repository is required: the image that you built from the Dockerfile and pushed" -}}
{{- end -}}
{{- if not (or $v.image.tag $v.image.digest) -}}
  {{- fail "image.tag or image.digest is required" -}}
{{- end -}}
{{- if not $v.config -}}
  {{- fail "config is required: the gate's configuration, see config.example.yaml of the repository" -}}
{{- end -}}
{{- if eq (not $v.certificate.existingSecret) (not $v.certificate.certManager.enabled) -}}
  {{- fail "exactly one of certificate.existingSecret and certificate.certManager.enabled is required" -}}
{{- end -}}
{{- if and $v.certificate.certManager.enabled (not (and $v.certificate.certManager.issuerRef.name $v.certificate.certManager.dnsNames)) -}}
  {{- fail "certificate.certManager needs issuerRef.name and dnsNames" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled $v.replicas -}}
  {{- fail "replicas and autoscaling.enabled exclude each other" -}}
{{- end -}}
{{- if $v.config.issuer -}}
  {{- if eq $v.mode "sidecar" -}}
    {{- fail "config.issuer: the issuer's state is one process's; run it in a release of its own with mode: gateway" -}}
  {{- end -}}
  {{- if or $v.autoscaling.enabled (gt (int ($v.replicas | default 1)) 1) -}}
    {{- fail "config.issuer: the issuer's state is one process's; leave replicas at 1 and autoscaling off" -}}
  {{- end -}}
{{- end -}}
{{- $stop := add (include "tallygate.sleepSeconds" .) (include "tallygate.drainSeconds" .) -}}
{{- if le (int $v.terminationGracePeriodSeconds) (int $stop) -}}
  {{- fail (printf "terminationGracePeriodSeconds must be more than %d: preStopSleepSeconds and the %s seconds that running requests have" (int $stop) (include "tallygate.drainSeconds" .)) -}}
{{- end -}}
{{- end -}}

{{/* How long the gate takes to stop after SIGTERM: drain.delay and drain.timeout. */}}
{{- define "tallygate.drainSeconds" -}}
25
{{- end -}}

{{/* The sleep action is on by default since Kubernetes 1.30; the image has no other. */}}
{{- define "tallygate.sleepSeconds" -}}
{{- ternary (int .Values.preStopSleepSeconds) 0 (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
