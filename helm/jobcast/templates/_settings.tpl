{{/* The service's environment, but for secrets: docs/operations.md says what each setting means. */}}
{{- define "jobcast.settings" -}}
JOBCAST_HOST: {{ .Values.listen | quote }}
JOBCAST_PORT: "8080"
JOBCAST_METRICS_HOST: {{ .Values.listen | quote }}
JOBCAST_METRICS_PORT: "9090"
JOBCAST_WORKERS: {{ .Values.workers | quote }}
JOBCAST_ENGINE: {{ .Values.engine.kind | quote }}
{{- if eq .Values.engine.kind "vllm-server" }}
JOBCAST_VLLM_URLS: {{ include "jobcast.vllmUrls" . | quote }}
{{- end }}
JOBCAST_ENGINE_THREADS: {{ .Values.engine.threads | quote }}
OMP_NUM_THREADS: {{ .Values.engine.threads | quote }}
JOBCAST_SHUTDOWN_GRACE_SECONDS: {{ .Values.shutdown.graceSeconds | quote }}
JOBCAST_DRAIN_SECONDS: {{ .Values.shutdown.drainSeconds | quote }}
{{- if .Values.auth.allowAnonymous }}
JOBCAST_ALLOW_ANONYMOUS: "true"
{{- else }}
JOBCAST_API_KEYS_FILE: /etc/jobcast/keys/{{ .Values.auth.keysSecretKey }}
{{- end }}
{{- if eq .Values.redis.source "url" }}
JOBCAST_REDIS_URL: {{ required "redis.url: redis.source url needs it" .Values.redis.url | quote }}
{{- else if and (eq .Values.redis.source "chart") (not .Values.redis.passwordSecret.name) }}
JOBCAST_REDIS_URL: redis://{{ include "jobcast.fullname" . }}-redis:6379/0
{{- end }}
{{- with .Values.tracing.endpoint }}
JOBCAST_OTLP_ENDPOINT: {{ . | quote }}
JOBCAST_TRACE_RATIO: {{ $.Values.tracing.ratio | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- /* Numbers from values files are floats to the template: 2097152 would become 2.097152e+06. */}}
JOBCAST_{{ $name }}: {{ if kindIs "float64" $value }}{{ $value | toJson | quote }}{{ else }}{{ $value | quote }}{{ end }}
{{- end }}
{{- end -}}

{{/* A JSON list; each server of a StatefulSet has a name, so that the front ends themselves choose among them. */}}
{{- define "jobcast.vllmUrls" -}}
{{- if eq .Values.vllm.source "urls" -}}
{{- if not .Values.vllm.urls }}{{ fail "vllm.urls: vllm.source urls needs at least one" }}{{ end -}}
{{- toJson .Values.vllm.urls -}}
{{- else -}}
{{- $urls := list -}}
{{- $name := printf "%s-vllm" (include "jobcast.fullname" .) -}}
{{- range until (int .Values.vllm.replicas) -}}
{{- $urls = append $urls (printf "http://%s-%d.%s:8001" $name . $name) -}}
{{- end -}}
{{- toJson $urls -}}
{{- end -}}
{{- end -}}

{{/* The secrets among the settings. */}}
{{- define "jobcast.secretSettings" -}}
{{- if eq .Values.redis.source "secret" }}
{{- $_ := required "redis.urlSecret.name: redis.source secret needs it" .Values.redis.urlSecret.name }}
{{ include "jobcast.secretEnv" (list "JOBCAST_REDIS_URL" .Values.redis.urlSecret) }}
{{- else if and (eq .Values.redis.source "chart") .Values.redis.passwordSecret.name }}
{{ include "jobcast.secretEnv" (list "REDIS_PASSWORD" .Values.redis.passwordSecret) }}
- name: JOBCAST_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "jobcast.fullname" . }}-redis:6379/0
{{- end }}
{{- if eq .Values.database.source "secret" }}
{{- $_ := required "database.urlSecret.name: database.source secret needs it" .Values.database.urlSecret.name }}
{{ include "jobcast.secretEnv" (list "JOBCAST_DATABASE_URL" .Values.database.urlSecret) }}
{{- if .Values.database.caSecret.name }}
# PostgreSQL's own variable, for sslmode=verify-full in the URL.
- name: PGSSLROOTCERT
  value: /etc/jobcast/database/{{ .Values.database.caSecret.key }}
{{- end }}
{{- else if eq .Values.database.source "chart" }}
{{- $_ := required "database.passwordSecret.name: database.source chart needs it" .Values.database.passwordSecret.name }}
{{ include "jobcast.secretEnv" (list "DATABASE_PASSWORD" .Values.database.passwordSecret) }}
- name: JOBCAST_DATABASE_URL
  value: postgresql://jobcast:$(DATABASE_PASSWORD)@{{ include "jobcast.fullname" . }}-postgres:5432/jobcast
{{- end }}
{{- if and (ne .Values.database.source "none") (not .Values.cacheSecret.name) }}
{{- fail "cacheSecret.name: database.source needs it; without it whoever reads the database can tell by guessing which job a row stands for" }}
{{- end }}
{{- if .Values.cacheSecret.name }}
{{ include "jobcast.secretEnv" (list "JOBCAST_CACHE_SECRET" .Values.cacheSecret) }}
{{- end }}
{{- if and (eq .Values.engine.kind "vllm-server") .Values.vllm.apiKeySecret.name }}
{{ include "jobcast.secretEnv" (list "JOBCAST_VLLM_API_KEY" .Values.vllm.apiKeySecret) }}
{{- end }}
{{- end -}}
