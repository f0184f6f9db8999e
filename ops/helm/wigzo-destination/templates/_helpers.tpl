{{/* What values must not be, told before anything is made. */}}
{{- define "wigzo.check" -}}
{{- if ne .Values.engine "sqlite" }}
{{- fail (printf "engine: %s is not to be had: this version of wigzo-destination keeps events in SQLite only. Set engine: sqlite" .Values.engine) }}
{{- end }}
{{- if not .Values.existingSecret }}
{{- fail "existingSecret: name a Secret with the organization token and the source keys, such as: kubectl create secret generic wigzo-destination --from-file=org_token --from-file=source_keys" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.private.tokenKey) }}
{{- fail "serviceMonitor.enabled needs private.tokenKey: without a token the private side is on loopback, where Prometheus cannot reach it" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.enabled needs ingress.host: the name under which Segment reaches the service" }}
{{- end }}
{{- end }}

{{- define "wigzo.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "wigzo.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wigzo.labels" -}}
{{ include "wigzo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
