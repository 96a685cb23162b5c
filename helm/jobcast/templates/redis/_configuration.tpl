{{/* A cache: nothing is kept on disk, and the least recently used leaves first. */}}
{{- define "jobcast.redisConfiguration" -}}
bind * -::*
port 6379
# The NetworkPolicy, and a password where there is one, say who may ask.
protected-mode no
maxmemory {{ .Values.redis.maxMemory }}
maxmemory-policy allkeys-lru
save ""
appendonly no
dir /tmp
{{- end -}}
