{{/*
Names. Objects of the whole cluster have fixed ones: two operators in one cluster would inject every pod twice. The
webhook configuration is called lifeboat-…, because webhooks run in the order of these names and ours has to run after
those of service meshes.
*/}}
{{- define "lifeboat.name" -}}lifeboat-operator{{- end }}
{{- define "lifeboat.webhookService" -}}lifeboat-webhook{{- end }}
{{- define "lifeboat.webhookSecret" -}}lifeboat-webhook-tls{{- end }}
{{- define "lifeboat.webhookConfiguration" -}}lifeboat-injector{{- end }}

{{- define "lifeboat.selectorLabels" -}}
app.kubernetes.io/name: lifeboat-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lifeboat.labels" -}}
{{ include "lifeboat.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{/* An image reference: by tag if there is one, else by digest. */}}
{{- define "lifeboat.image" -}}
{{- if .tag -}}
{{ .repository }}:{{ .tag }}
{{- else -}}
{{ .repository }}@{{ required "set either image tag or image digest" .digest }}
{{- end -}}
{{- end }}
