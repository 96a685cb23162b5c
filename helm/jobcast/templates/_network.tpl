{{/* Rules of NetworkPolicies. */}}

{{- define "jobcast.dnsRule" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* To peers, or to anyone, on one port: (list peers port). */}}
{{- define "jobcast.egressRule" -}}
- ports:
    - {port: {{ index . 1 }}, protocol: TCP}
  {{- with index . 0 }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "jobcast.urlPort" -}}
{{- $url := urlParse . -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) -}}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $port -}}
{{- end -}}

{{- define "jobcast.checkpointRule" -}}
{{- if eq .Values.checkpoint.source "s3" -}}
{{- $s3 := .Values.checkpoint.s3 -}}
{{- include "jobcast.egressRule" (list $s3.peers (include "jobcast.urlPort" (default "https://s3" $s3.endpoint))) -}}
{{- end -}}
{{- end -}}
