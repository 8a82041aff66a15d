{{/* A component's gRPC service. (dict "root" $ "name" COMPONENT "port" NUMBER) */}}
{{- define "corral.grpcService" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "corral.metadata" . | nindent 2 }}
spec:
  selector:
    {{- include "corral.selector" . | nindent 4 }}
  ports:
    - name: grpc
      port: {{ .port }}
      targetPort: {{ .name }}
      appProtocol: kubernetes.io/h2c
{{- end }}

{{/* A component's number of pods by load. (dict "root" $ "name" COMPONENT "autoscaling" VALUES) */}}
{{- define "corral.autoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "corral.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "corral.name" . }}
  minReplicas: {{ .autoscaling.minReplicas }}
  maxReplicas: {{ .autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .autoscaling.targetCPUUtilizationPercentage }}
{{- end }}

{{/* Which launcher runs have that don't say so, and what there is of Modal, as JSON. The trainer plans
     and prices with it; of the token it gets the half that says that there is one. */}}
{{- define "corral.launcherEnv" -}}
{{- $env := dict "CORRAL_LAUNCHER" .Values.worker.mode -}}
{{- with .Values.modal -}}
{{- if .existingSecret -}}
{{- $_ := set $env "MODAL_TOKEN_ID" (include "corral.fromSecret" (dict "secret" .existingSecret "key" "token-id") | fromJson) -}}
{{- $_ := set $env "CORRAL_MODAL_CPU" (.cpu | toString) -}}
{{- $_ := set $env "CORRAL_MODAL_MEMORY_MIB" (.memoryMiB | int64 | toString) -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{/* The file that the launcher makes its pods from. Mounted as a folder: a changed template arrives
     in a running worker, and counts from the next run on. */}}
{{- define "corral.podTemplateVolume" -}}
- name: pod-template
  configMap:
    name: {{ include "corral.name" (dict "root" . "name" "training") }}
{{- end }}

{{- define "corral.podTemplateMount" -}}
- name: pod-template
  mountPath: /etc/corral
  readOnly: true
{{- end }}
