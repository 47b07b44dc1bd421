{{/*
The groups of files/tallygate.rules.yaml with the changes of prometheusRule. Without changes
they are those of the file.
*/}}
{{- define "tallygate.ruleGroups" -}}
{{- $known := dict -}}
{{- $groups := list -}}
{{- range $group := (.Files.Get "files/tallygate.rules.yaml" | fromYaml).groups -}}
  {{- $rules := list -}}
  {{- range $rule := $group.rules -}}
    {{- $change := dict -}}
    {{- with $rule.alert -}}
      {{- $_ := set $known . true -}}
      {{- $change = get $.Values.prometheusRule.rules . | default dict -}}
      {{- include "tallygate.changeAlert" (list $rule $change $.Values.prometheusRule.additionalRuleLabels) -}}
    {{- end -}}
    {{- if ternary $change.enabled true (hasKey $change "enabled") -}}
      {{- $rules = append $rules $rule -}}
    {{- end -}}
  {{- end -}}
  {{- with $rules -}}
    {{- $groups = append $groups (dict "name" $group.name "rules" .) -}}
  {{- end -}}
{{- end -}}
{{- range $name, $_ := .Values.prometheusRule.rules -}}
  {{- if not (hasKey $known $name) -}}
    {{- fail (printf "prometheusRule.rules.%s: no such alert; there are %s" $name (keys $known | sortAlpha | join ", ")) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}

{{/*
Changes an alert: (list ALERT CHANGE LABELS). The file has thresholds, and no other numbers,
in parentheses of their own.
*/}}
{{- define "tallygate.changeAlert" -}}
{{- $alert := index . 0 -}}{{- $change := index . 1 -}}
{{- $labels := merge (dict) ($change.labels | default dict) (index . 2) $alert.labels -}}
{{- with $change.severity -}}
  {{- $_ := set $labels "severity" . -}}
{{- end -}}
{{- $_ := set $alert "labels" $labels -}}
{{- with get $change "for" -}}
  {{- $_ := set $alert "for" . -}}
{{- end -}}
{{- if hasKey $change "threshold" -}}
  {{- $number := "[(][0-9.]+( [*] [0-9.]+)*[)]" -}}
  {{- if not (regexMatch $number $alert.expr) -}}
    {{- fail (printf "prometheusRule.rules.%s.threshold: the alert has no threshold" $alert.alert) -}}
  {{- end -}}
  {{- $_ := set $alert "expr" (regexReplaceAllLiteral $number $alert.expr (printf "(%v)" $change.threshold)) -}}
{{- end -}}
{{- end -}}
