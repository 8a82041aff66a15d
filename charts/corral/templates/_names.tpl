{{/* Names and labels. Every helper but corral.fullname takes (dict "root" $ "name" COMPONENT). */}}

{{- define "corral.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- /* 46 leaves room for the longest suffix below, within the 63 of a label. */ -}}
{{- default $full .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- end }}

{{- define "corral.name" -}}
{{ include "corral.fullname" .root }}-{{ .name }}
{{- end }}

{{/* What a selector may hold: none of it ever changes. */}}
{{- define "corral.selector" -}}
app.kubernetes.io/name: corral
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "corral.labels" -}}
{{ include "corral.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: corral
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The head of every manifest; "suffix" overrides the name's last part. */}}
{{- define "corral.metadata" -}}
name: {{ include "corral.name" (dict "root" .root "name" (default .name .suffix)) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "corral.labels" . | nindent 2 }}
{{- end }}

{{- define "corral.redisSecret" -}}
{{- $own := include "corral.name" (dict "root" . "name" "redis") -}}
{{- .Values.redis.external.existingSecret | default .Values.redis.auth.existingSecret | default $own -}}
{{- end }}

{{- define "corral.volumeClaim" -}}
{{- .Values.volume.existingClaim | default (include "corral.name" (dict "root" . "name" "data")) -}}
{{- end }}
