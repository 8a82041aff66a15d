{{/* Rules that several network policies share. */}}

{{/* The pods of some components of this release. (dict "root" $ "names" LIST) */}}
{{- define "corral.peers" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: corral
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: {{ toJson .names }}}
{{- end }}

{{/* The head and subject of a component's policy. */}}
{{- define "corral.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "corral.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "corral.selector" . | nindent 6 }}
{{- end }}

{{/* (dict "root" $ "ports" DICT OF COMPONENTS) */}}
{{- define "corral.toServices" -}}
{{- range $name, $port := .ports -}}
- to:
    {{- include "corral.peers" (dict "root" $.root "names" (list $name)) | nindent 4 }}
  ports:
    - port: {{ $port }}
{{ end }}
{{- end }}

{{- define "corral.toDNS" -}}
# Names of services and pods.
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{- define "corral.toRedis" -}}
# Redis: jobs, their events, and what is published.
{{- if .Values.redis.external.existingSecret }}
- to:
    {{- toYaml .Values.redis.external.peers | nindent 4 }}
  ports:
    - port: {{ .Values.redis.external.port }}
{{- else }}
- to:
    {{- include "corral.peers" (dict "root" . "names" (list "redis")) | nindent 4 }}
  ports:
    - port: 6379
{{- end }}
{{- end }}

{{- define "corral.toModelHub" -}}
{{- if .Values.modelHub.enabled -}}
# Base models that are not on the volume yet.
- to:
    {{- toYaml .Values.modelHub.peers | nindent 4 }}
  ports:
    - port: 443
{{- end }}
{{- end }}

{{- define "corral.toModal" -}}
{{- if .Values.modal.existingSecret -}}
# Modal: its API, and where it takes and gives files.
- to:
    {{- toYaml .Values.modal.peers | nindent 4 }}
  ports:
    - port: 443
{{- end }}
{{- end }}

{{- define "corral.fromMonitoring" -}}
{{- if .Values.metrics.enabled -}}
# Prometheus.
- from:
    {{- toYaml .Values.networkPolicy.monitoring | nindent 4 }}
  ports:
    - port: 9464
{{- end }}
{{- end }}
