{{/*
What the schema cannot say. Every template of the chart that makes a manifest begins with
it by way of tallygate.config.
*/}}
{{- define "tallygate.check" -}}
{{- include "tallygate.checkRequired" . -}}
{{- include "tallygate.checkPods" . -}}
{{- include "tallygate.checkService" . -}}
{{- $grace := include "tallygate.terminationGracePeriodSeconds" . -}}
{{- $v := .Values -}}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled -}}
  {{- fail "podMonitor.enabled and serviceMonitor.enabled exclude each other: Prometheus would count every gate twice" -}}
{{- end -}}
{{- end -}}

{{- define "tallygate.checkRequired" -}}
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
{{- end -}}

{{- define "tallygate.checkPods" -}}
{{- $v := .Values -}}
{{- if and $v.autoscaling.enabled $v.replicas -}}
  {{- fail "replicas and autoscaling.enabled exclude each other" -}}
{{- end -}}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) -}}
  {{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if not (or (kindIs "invalid" $v.podDisruptionBudget.minAvailable) (kindIs "invalid" $v.podDisruptionBudget.maxUnavailable)) -}}
  {{- fail "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable exclude each other" -}}
{{- end -}}
{{- if and (eq $v.mode "sidecar") (or $v.extraContainers $v.extraInitContainers) -}}
  {{- fail "extraContainers and extraInitContainers are for mode: gateway; a sidecar's pod has its own" -}}
{{- end -}}
{{- if and $v.config.issuer (eq $v.mode "sidecar") -}}
  {{- fail "config.issuer: run the issuer in a release of its own with mode: gateway" -}}
{{- end -}}
{{- if include "tallygate.stateFolder" . -}}
  {{- $one := "config.issuer: the issuer's state is one process's; %s, or keep the state in PostgreSQL by config.issuer.database" -}}
  {{- if or $v.autoscaling.enabled (gt (int ($v.replicas | default 1)) 1) -}}
    {{- fail (printf $one "leave replicas at 1 and autoscaling off") -}}
  {{- end -}}
  {{- if and $v.strategy (ne $v.strategy.type "Recreate") -}}
    {{- fail (printf $one "leave strategy out") -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "tallygate.checkService" -}}
{{- with .Values.service -}}
{{- if and (ne .type "LoadBalancer") (or .loadBalancerClass .loadBalancerSourceRanges) -}}
  {{- fail "service.loadBalancerClass and service.loadBalancerSourceRanges need service.type: LoadBalancer" -}}
{{- end -}}
{{- if and (eq .type "ClusterIP") (or .nodePort .issuerNodePort .issuerAliasNodePort .externalTrafficPolicy) -}}
  {{- fail "service.nodePort, issuerNodePort, issuerAliasNodePort and externalTrafficPolicy need service.type: NodePort or LoadBalancer" -}}
{{- end -}}
{{- end -}}
{{- end -}}
