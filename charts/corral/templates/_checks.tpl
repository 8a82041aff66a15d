{{/* Combinations of values that can't work, and why. What one value alone may be, the schema says. */}}

{{- define "corral.check" -}}
{{- $v := .Values -}}
{{- if and (eq $v.volume.accessMode "ReadWriteOnce") (not $v.volume.singleNode) -}}
{{- fail "volume.accessMode=ReadWriteOnce: the trainer, the workers, inference and every training pod mount this volume, and ReadWriteOnce lets the pods of one node mount it. Use a storage class with ReadWriteMany (NFS, CephFS, EFS, Filestore), or, where all pods run on one node, say so with volume.singleNode=true." -}}
{{- end -}}
{{- if and $v.redis.external.existingSecret $v.redis.auth.existingSecret -}}
{{- fail "redis.external.existingSecret and redis.auth.existingSecret: the first means a Redis of yours, the second names the password of the chart's own. Set one." -}}
{{- end -}}
{{- if and (ne $v.worker.mode "kubernetes") $v.training.queue -}}
{{- fail (printf "training.queue: Kueue queues the Jobs of worker.mode=kubernetes; with worker.mode=%s there are none." $v.worker.mode) -}}
{{- end -}}
{{- if and (eq $v.worker.mode "modal") (not $v.modal.existingSecret) -}}
{{- fail "worker.mode=modal: name the Secret with your Modal token in modal.existingSecret (keys token-id and token-secret)." -}}
{{- end -}}
{{- range $name := list "inference" "web" -}}
{{- $own := get $v $name -}}
{{- if $own.autoscaling.enabled -}}
{{- if gt (int $own.autoscaling.minReplicas) (int $own.autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling: minReplicas is above maxReplicas." $name) -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" $own.resources) -}}
{{- fail (printf "%s.autoscaling: the target is a share of %s.resources.requests.cpu, which is not set." $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled (not $v.metrics.enabled) -}}
{{- fail "metrics.serviceMonitor.enabled: there is nothing to scrape without metrics.enabled." -}}
{{- end -}}
{{- if and $v.gateway.enabled (not $v.gateway.parentRefs) -}}
{{- fail "gateway.enabled: a route needs a Gateway to hang on; name it in gateway.parentRefs." -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- fail "ingress.enabled: set ingress.host, the name that clients use." -}}
{{- end -}}
{{- end }}
