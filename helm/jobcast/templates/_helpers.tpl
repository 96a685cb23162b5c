{{/* Names and labels. */}}

{{/* 43 characters, and nine for `-postgres`: the pods of a StatefulSet have a label with its name and a hash, 63 in all. */}}
{{- define "jobcast.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 43 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 43 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 43 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "jobcast.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "jobcast.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: without serviceAccount.create it has to name one that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Selects the pods of one part: (list . "service"). Never changes within a release. */}}
{{- define "jobcast.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "jobcast.labels" -}}
{{- $root := index . 0 -}}
{{ include "jobcast.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* repository:tag@digest of (list . image "its value"); where there is no tag, the chart's appVersion. */}}
{{- define "jobcast.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $tag := default $root.Chart.AppVersion $image.tag -}}
{{- if eq $tag "latest" }}{{ fail (printf "%s.tag: latest names no version" (index . 2)) }}{{ end -}}
{{- $image.repository }}:{{ $tag }}{{ with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* The key of a Secret as an environment variable: (list "NAME" reference). */}}
{{- define "jobcast.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 1).name | quote }}
      key: {{ (index . 1).key | quote }}
{{- end -}}

{{/* How many pods of the service are kept at least, and at most. */}}
{{- define "jobcast.fewestPods" -}}
{{- ternary .Values.replicas .Values.autoscaling.minReplicas (eq .Values.autoscaling.kind "none") -}}
{{- end -}}

{{- define "jobcast.mostPods" -}}
{{- ternary .Values.replicas .Values.autoscaling.maxReplicas (eq .Values.autoscaling.kind "none") -}}
{{- end -}}
