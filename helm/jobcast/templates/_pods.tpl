{{/* What all pods have in common. */}}

{{/* The beginning of a pod's spec: (list . user), whose number is also that of the group. */}}
{{- define "jobcast.pod" -}}
{{- $root := index . 0 -}}
{{- $user := index . 1 -}}
serviceAccountName: {{ include "jobcast.serviceAccountName" $root }}
automountServiceAccountToken: false
# Kubernetes would set JOBCAST_PORT and its like for services in the namespace.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  # Secrets are mounted for this group to read.
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Of every container. */}}
{{- define "jobcast.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Metadata of a pod: (list . "service" configuration). A change of it replaces the pods: no version of the chart in it. */}}
{{- define "jobcast.podMetadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "jobcast.selector" (list $root (index . 1)) | nindent 2 }}
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/configuration: {{ index . 2 | sha256sum }}
  {{- with $root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Zones first, then nodes; counted within one version of the pods, or a rollout would be uneven. (list . "service") */}}
{{- define "jobcast.spread" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ $key }}
    maxSkew: {{ $root.Values.topologySpread.maxSkew }}
    whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "jobcast.selector" (list $root $part) | nindent 8 }}
    matchLabelKeys: [{{ if eq $part "service" }}pod-template-hash{{ else }}controller-revision-hash{{ end }}]
  {{- end }}
{{- end -}}
