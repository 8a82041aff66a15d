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
