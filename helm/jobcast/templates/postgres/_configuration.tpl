{{/* Who may log in: the superuser from inside of the pod alone, the service with its password. */}}
{{- define "jobcast.postgresAccess" -}}
local all     postgres     peer
host  jobcast jobcast  all scram-sha-256
{{- end -}}

{{/* Run once, when the database is made: the service owns its database, and nothing beyond it. */}}
{{- define "jobcast.postgresFirst" -}}
\getenv password POSTGRES_PASSWORD
create role jobcast login password :'password';
alter database jobcast owner to jobcast;
{{- end -}}

{{/* The connections of all pods, one more during a rollout, and three that PostgreSQL keeps for its superuser. */}}
{{- define "jobcast.postgresConnections" -}}
{{- $each := mul .Values.workers (default 5 .Values.settings.DATABASE_CONNECTIONS) -}}
{{- $needed := add 3 (mul $each (add 1 (include "jobcast.mostPods" .))) -}}
{{- if gt $needed (int64 .Values.database.maxConnections) -}}
{{- fail (printf "database.maxConnections: the most pods, their workers and DATABASE_CONNECTIONS come to %d" $needed) -}}
{{- end -}}
{{- .Values.database.maxConnections -}}
{{- end -}}
