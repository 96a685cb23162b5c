{{/* Where the checkpoint comes from; the same for the service and for vLLM servers. */}}

{{- define "jobcast.checkpointEnv" -}}
{{- if ne .Values.checkpoint.source "image" -}}
- name: JOBCAST_CHECKPOINT
  value: /checkpoint
{{- end -}}
{{- end -}}

{{- define "jobcast.checkpointMount" -}}
{{- if ne .Values.checkpoint.source "image" -}}
- name: checkpoint
  mountPath: /checkpoint
  readOnly: true
  {{- if and (eq .Values.checkpoint.source "pvc") .Values.checkpoint.pvc.path }}
  subPath: {{ .Values.checkpoint.pvc.path | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "jobcast.checkpointVolume" -}}
{{- if eq .Values.checkpoint.source "pvc" -}}
- name: checkpoint
  persistentVolumeClaim:
    claimName: {{ required "checkpoint.pvc.claim: checkpoint.source pvc needs it" .Values.checkpoint.pvc.claim | quote }}
    readOnly: true
{{- else if ne .Values.checkpoint.source "image" -}}
- name: checkpoint
  emptyDir:
    sizeLimit: {{ .Values.checkpoint.sizeLimit }}
{{- end -}}
{{- end -}}

{{/* Copies it before anything starts; the service then checks the sums of all files. */}}
{{- define "jobcast.checkpointInit" -}}
{{- if eq .Values.checkpoint.source "oci" -}}
{{- $oci := .Values.checkpoint.oci -}}
{{- $_ := required "checkpoint.oci.repository: checkpoint.source oci needs it" $oci.repository -}}
{{- $_ := required "checkpoint.oci.tag: checkpoint.source oci needs it" $oci.tag -}}
initContainers:
  - name: checkpoint
    image: {{ include "jobcast.image" (list . $oci "checkpoint.oci") }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [cp, -R, "{{ trimSuffix "/" $oci.path }}/.", /to/]
    {{- include "jobcast.checkpointInitRest" . | nindent 4 }}
{{- else if eq .Values.checkpoint.source "s3" -}}
{{- $s3 := .Values.checkpoint.s3 -}}
initContainers:
  - name: checkpoint
    image: {{ include "jobcast.image" (list . $s3 "checkpoint.s3") }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command:
      - aws
      - s3
      - cp
      - --recursive
      - --only-show-errors
      - {{ required "checkpoint.s3.url: checkpoint.source s3 needs it" $s3.url }}
      - /to
    env:
      - name: AWS_REGION
        value: {{ $s3.region }}
      - name: HOME
        value: /to
      {{- with $s3.endpoint }}
      - name: AWS_ENDPOINT_URL_S3
        value: {{ . }}
      {{- end }}
      {{- with $s3.credentialsSecret }}
      {{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
      {{- include "jobcast.secretEnv" (list . (dict "name" $s3.credentialsSecret "key" .)) | nindent 6 }}
      {{- end }}
      {{- end }}
    {{- include "jobcast.checkpointInitRest" . | nindent 4 }}
{{- end -}}
{{- end -}}

{{- define "jobcast.checkpointInitRest" -}}
securityContext:
  {{- include "jobcast.containerSecurity" . | nindent 2 }}
resources:
  requests: {cpu: 100m, memory: 128Mi}
  limits: {cpu: "1", memory: 512Mi}
volumeMounts:
  - name: checkpoint
    mountPath: /to
{{- end -}}
