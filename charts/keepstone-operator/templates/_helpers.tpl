{{- define "keepstone-operator.name" -}}
{{- if contains "keepstone-operator" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-keepstone-operator" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "keepstone-operator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "keepstone-operator.name" .) -}}
{{- end -}}

{{- define "keepstone-operator.selector" -}}
app.kubernetes.io/name: keepstone-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "keepstone-operator.labels" -}}
{{ include "keepstone-operator.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: keepstone
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
What the operator does in a namespace with clusters, and no more. Secrets are read by name and never listed. Nothing of it lets the
operator run a command in a pod, read a log, or change a role.
*/}}
{{- define "keepstone-operator.rules" -}}
# Clusters: read, and the finalizer set.
- apiGroups: [keepstone.io]
  resources: [etcdclusters]
  verbs: [get, list, watch, patch]
# Backups and operations: by schedule, and removed when their time is over.
- apiGroups: [keepstone.io]
  resources: [etcdbackups, etcdoperations]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [keepstone.io]
  resources: [etcdclusters/status, etcdbackups/status, etcdoperations/status]
  verbs: [patch]
# To own objects, where the API server asks for this right.
- apiGroups: [keepstone.io]
  resources: [etcdclusters/finalizers, etcdbackups/finalizers, etcdoperations/finalizers]
  verbs: [update]
# Members.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
# Claims are made for what is saved before a majority is given up or data replaced.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts, configmaps]
  verbs: [get, list, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, create, patch, delete]
# Certificates, and the credentials of stores.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
# Work beside a volume or a store: backups, restores, what is saved before it is given up.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.rbac.certManager }}
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, create, patch]
{{- end }}
{{- if .Values.rbac.monitoring }}
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, create, patch, delete]
{{- end }}
{{- end -}}
