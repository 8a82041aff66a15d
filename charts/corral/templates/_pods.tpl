{{/* What pods are made of. */}}

{{/* (dict "root" $ "image" VALUES.image): an image of Corral's. */}}
{{- define "corral.image" -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}:{{ $tag }}
{{- end }}

{{/* Pod Security "restricted", for a user id. */}}
{{- define "corral.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
# A volume full of checkpoints is not walked again at each start.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "corral.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods of a service may run: its own values. */}}
{{- define "corral.placement" -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $ $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* A container's env from a list of dicts, of which the later win: no name is in it twice, which
     server-side apply refuses. Values are text, or what stands beside a name in Kubernetes. */}}
{{- define "corral.env" -}}
{{- $env := dict -}}
{{- range . }}{{ range $name, $value := . }}{{ $_ := set $env $name $value }}{{ end }}{{ end -}}
{{- range $name, $value := $env }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  {{- toYaml $value | nindent 2 }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* (dict "secret" NAME "key" KEY) as an env value, in JSON. */}}
{{- define "corral.fromSecret" -}}
{{- dict "valueFrom" (dict "secretKeyRef" (dict "name" .secret "key" .key)) | toJson -}}
{{- end }}

{{/* What every container of ours reads, as JSON: the volume's place, and the model hub's. */}}
{{- define "corral.dataEnv" -}}
{{- $env := dict "CORRAL_DATA" "/data" "HOME" "/tmp" "HF_HOME" "/data/huggingface" -}}
{{- with .Values.modelHub -}}
{{- if not .enabled }}{{ $_ := set $env "HF_HUB_OFFLINE" "1" }}{{ end -}}
{{- if and .enabled .tokenSecret -}}
{{- $_ := set $env "HF_TOKEN" (include "corral.fromSecret" (dict "secret" .tokenSecret "key" "token") | fromJson) -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{/* What the services read besides, as JSON. */}}
{{- define "corral.serviceEnv" -}}
{{- $env := include "corral.dataEnv" . | fromJson -}}
{{- $_ := set $env "CORRAL_LOG_LEVEL" .Values.logLevel -}}
{{- $_ := set $env "CORRAL_HOST" "0.0.0.0" -}}
{{- $_ := set $env "CORRAL_REDIS_URL" (include "corral.fromSecret" (dict "secret" (include "corral.redisSecret" .) "key" "url") | fromJson) -}}
{{- $_ := set $env "CORRAL_METRICS_PORT" (ternary "9464" "0" .Values.metrics.enabled) -}}
{{- toJson $env -}}
{{- end }}

{{/* Of a service that has no part in Redis or the volume, as JSON. */}}
{{- define "corral.statelessEnv" -}}
{{- $env := dict "HOME" "/tmp" "CORRAL_LOG_LEVEL" .Values.logLevel "CORRAL_HOST" "0.0.0.0" -}}
{{- $_ := set $env "CORRAL_METRICS_PORT" (ternary "9464" "0" .Values.metrics.enabled) -}}
{{- toJson $env -}}
{{- end }}

{{- define "corral.volumes" -}}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "corral.volumeClaim" . }}
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "corral.volumeMounts" -}}
- name: data
  mountPath: /data
- name: tmp
  mountPath: /tmp
{{- end }}

{{/* NCCL and data loaders share memory through /dev/shm, of which a container has 64 MiB. */}}
{{- define "corral.shmVolume" -}}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.training.shmSize }}
{{- end }}

{{- define "corral.shmMount" -}}
- name: shm
  mountPath: /dev/shm
{{- end }}

{{/* Health as the server tells it itself: it does not ask Redis, or an outage there would restart
     every pod here. One without a gRPC service is asked over HTTP.
     (dict "port" NUMBER "service" GRPC SERVICE) */}}
{{- define "corral.probes" -}}
{{- $ask := printf "httpGet: {port: %v, path: /healthz}" .port -}}
{{- with .service }}{{ $ask = printf "grpc: {port: %v, service: %s}" $.port . }}{{ end -}}
startupProbe:
  {{ $ask }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 60
readinessProbe:
  {{ $ask }}
  periodSeconds: 5
  timeoutSeconds: 2
livenessProbe:
  {{ $ask }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* The pod template of a service:
     (dict "root" $ "name" COMPONENT "values" ITS VALUES "image" VALUES.image "command" LIST
           "env" DICT "port" NUMBER "service" GRPC SERVICE "labels" DICT "account" SERVICE ACCOUNT
           "automount" BOOL "volumes" YAML "mounts" YAML "grace" SECONDS "runtimeClassName" NAME
           "trainsInside" BOOL "prepare" COMMAND TO RUN BEFORE "stateless" BOOL)
     All may be absent from "env" on; a worker has no port, what is stateless neither Redis nor the
     volume. */}}
{{- define "corral.podTemplate" -}}
{{- $root := .root -}}
metadata:
  # No version of the chart among them: a new one alone must not restart a worker, and so its run.
  labels:
    {{- include "corral.selector" . | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if $root.Values.metrics.enabled }}
    corral.dev/metrics: "true"
    {{- end }}
  {{- with .values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ .account | default (include "corral.fullname" $root) }}
  automountServiceAccountToken: {{ .automount | default false }}
  # Variables of every Service in the namespace: nobody reads them.
  enableServiceLinks: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .grace }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  {{- with .runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- if .trainsInside }}
  # Brings an init as process 1, which buries what a killed run leaves behind.
  shareProcessNamespace: true
  {{- end }}
  securityContext:
    {{- include "corral.podSecurity" 10001 | nindent 4 }}
  {{- $image := include "corral.image" (dict "root" $root "image" .image) }}
  {{- $shared := include (ternary "corral.statelessEnv" "corral.serviceEnv" (.stateless | default false)) $root | fromJson }}
  {{- $env := include "corral.env" (list $shared (.env | default dict) .values.env) | trim }}
  {{- with .prepare }}
  initContainers:
    - name: prepare
      image: {{ $image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: {{ toJson . }}
      env:
        {{- $env | nindent 8 }}
      resources:
        {{- toYaml $.values.resources | nindent 8 }}
      securityContext:
        {{- include "corral.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- include "corral.volumeMounts" . | nindent 8 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ $image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: {{ toJson .command }}
      env:
        {{- $env | nindent 8 }}
      {{- if or .port $root.Values.metrics.enabled }}
      ports:
        {{- if .port }}
        - name: {{ .name }}
          containerPort: {{ .port }}
        {{- end }}
        {{- if $root.Values.metrics.enabled }}
        - name: metrics
          containerPort: 9464
        {{- end }}
      {{- end }}
      {{- if .port }}
      {{- include "corral.probes" . | nindent 6 }}
      # Meanwhile the endpoint is taken out everywhere: no call meets a closed port.
      lifecycle:
        preStop:
          sleep:
            seconds: 3
      {{- end }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- include "corral.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- if .stateless }}
        - name: tmp
          mountPath: /tmp
        {{- else }}
        {{- include "corral.volumeMounts" . | nindent 8 }}
        {{- end }}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    {{- if .stateless }}
    - name: tmp
      emptyDir: {}
    {{- else }}
    {{- include "corral.volumes" $root | nindent 4 }}
    {{- end }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
  {{- with include "corral.placement" .values | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
