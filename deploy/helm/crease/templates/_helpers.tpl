{{- /* A name of limited length. A longer one ends with a hash of the whole, so that two never become one: (list 40 $name) */ -}}
{{- define "crease.short" -}}
{{- $length := index . 0 -}}{{- $name := index . 1 -}}
{{- if le (len $name) $length }}{{ $name }}{{ else }}{{ trunc (sub $length 9 | int) $name | trimSuffix "-" }}-{{ sha256sum $name | trunc 8 }}{{ end -}}
{{- end -}}

{{- define "crease.name" -}}
{{- include "crease.short" (list 40 (ternary .Release.Name (printf "%s-crease" .Release.Name) (contains "crease" .Release.Name))) -}}
{{- end -}}

{{- define "crease.cluster" -}}
{{- .Values.cluster | default (include "crease.short" (list 63 (printf "%s-%s" .Release.Namespace .Release.Name))) -}}
{{- end -}}

{{- /* The selector labels of a component's pods: (list $ "jobs") */ -}}
{{- define "crease.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: crease
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* A component's pods as a NetworkPolicy peer, in JSON. */ -}}
{{- define "crease.pods" -}}
{{- dict "podSelector" (dict "matchLabels" (include "crease.selector" . | fromYaml)) | toJson -}}
{{- end -}}

{{- define "crease.labels" -}}
{{- $ := index . 0 -}}
{{ include "crease.selector" . }}
app.kubernetes.io/part-of: crease
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ $.Chart.Name }}-{{ $.Chart.Version }}
{{- end -}}

{{- define "crease.image" -}}
{{- $ := index . 0 -}}{{- $program := index . 1 -}}
{{- $image := printf "%s/%s" $.Values.image.registry $program -}}
{{- with index $.Values.image.digests $program }}{{ $image }}@{{ . }}{{ else }}{{ $image }}:{{ $.Values.image.tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "crease.endpoint" -}}
{{- $ := index . 0 -}}
{{- if $.Values.tls.secret }}https://{{ end -}}
{{ include "crease.name" $ }}-{{ index . 1 }}.{{ $.Release.Namespace }}.svc:{{ include "crease.port" (index . 1) }}
{{- end -}}

{{- define "crease.port" -}}
{{- get (dict "jobs" "50051" "upload" "50052" "controller" "50053") . -}}
{{- end -}}

{{- define "crease.metricsPort" -}}9090{{- end -}}

{{- define "crease.s3Endpoint" -}}
{{- if .Values.dev.embedded }}http://{{ include "crease.name" . }}-s3.{{ .Release.Namespace }}.svc:4566{{ else }}{{ .Values.s3.endpoint }}{{ end -}}
{{- end -}}

{{- /* The trusted issuers of a server: for people, and for the programs and pods of this release. */ -}}
{{- define "crease.issuers" -}}
{{- $issuers := list -}}
{{- range .Values.issuers }}{{ $issuers = append $issuers (dict "kind" "people" "issuer" .issuer "jwks_url" .jwksUrl) }}{{ end -}}
{{- if .Values.dev.embedded -}}
{{- $issuers = append $issuers (dict "kind" "people" "issuer" "crease-laptop/people" "jwks_url" (printf "http://%s-trial:8080/jwks.json" (include "crease.name" .))) -}}
{{- end -}}
{{- $subjects := dict -}}
{{- range list "upload" "controller" "analyzer" }}{{ $_ := set $subjects (printf "system:serviceaccount:%s:%s-%s" $.Release.Namespace (include "crease.name" $) .) . }}{{ end -}}
{{- $cluster := dict "kind" "cluster" "issuer" .Values.clusterIssuer.issuer "jwks_url" .Values.clusterIssuer.jwksUrl "subjects" $subjects -}}
{{- if .Values.clusterIssuer.isApiServer -}}
{{- $_ := set $cluster "jwks_ca_file" "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" -}}
{{- $_ := set $cluster "jwks_token_file" "/var/run/secrets/kubernetes.io/serviceaccount/token" -}}
{{- end -}}
{{- append $issuers $cluster | toJson -}}
{{- end -}}

{{- define "crease.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "crease.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* The database URL. */ -}}
{{- define "crease.databaseEnv" -}}
- name: CREASE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ ternary (printf "%s-trial" (include "crease.name" .)) .Values.database.secret .Values.dev.embedded }}
      key: {{ ternary "url" .Values.database.key .Values.dev.embedded }}
{{- end -}}

{{- /* AWS keys from a Secret: (list "name"); empty if the name is empty. */ -}}
{{- define "crease.keys" -}}
{{- with index . 0 }}
- {name: AWS_ACCESS_KEY_ID, valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_ACCESS_KEY_ID}}}
- {name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_SECRET_ACCESS_KEY}}}
{{- end }}
{{- end -}}

{{- define "crease.migration" -}}
name: migrate
image: {{ include "crease.image" (list . "jobs") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [migrate]
env:
  {{- include "crease.databaseEnv" . | nindent 2 }}
resources: {requests: {cpu: 50m, memory: 96Mi}, limits: {memory: 256Mi}}
securityContext:
  {{- include "crease.containerSecurity" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- /* Projected token volumes: one with our audience, one for the API server: (list $ creaseToken apiToken) */ -}}
{{- define "crease.tokenVolumes" -}}
{{- $ := index . 0 -}}
{{- if index . 1 }}
- name: crease-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {audience: {{ $.Values.audience | quote }}, expirationSeconds: 3600, path: token}
{{- end }}
{{- if index . 2 }}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {expirationSeconds: 3600, path: token}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
{{- end -}}

{{- /* One program's ServiceAccount, Deployment, Service, PodDisruptionBudget and HorizontalPodAutoscaler:
       (dict "root" $ "program" "jobs" "env" $env "creaseToken" false "apiToken" true "args" list "port" 50051) */ -}}
{{- define "crease.program" -}}
{{- $ := .root -}}{{- $program := .program -}}{{- $values := index $.Values $program -}}
{{- $name := printf "%s-%s" (include "crease.name" $) $program -}}
{{- $autoscaled := and (hasKey $values "autoscaling") (dig "autoscaling" "enabled" false $values) -}}
{{- $port := include "crease.port" $program -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
  {{- with $values.serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
spec:
  {{- if not $autoscaled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  # A new pod must be ready before an old one is deleted.
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector:
    matchLabels:
      {{- include "crease.selector" (list $ $program) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "crease.labels" (list $ $program) | nindent 8 }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      # preStop 5 s + CREASE_DRAIN_SECONDS 15 s + margin.
      terminationGracePeriodSeconds: 30
      {{- with $.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      securityContext:
        {{- include "crease.podSecurity" . | nindent 8 }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "crease.selector" (list $ $program) | nindent 14 }}
        {{- end }}
      {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
      {{- with index $values $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- if and (eq $program "jobs") $.Values.dev.embedded }}
      initContainers:
        - name: reach
          image: {{ include "crease.image" (list $ "trial") }}
          imagePullPolicy: {{ $.Values.image.pullPolicy }}
          args: [reach, {{ include "crease.name" $ }}-postgres, "5432"]
          resources: {requests: {cpu: 20m, memory: 48Mi}, limits: {memory: 128Mi}}
          securityContext:
            {{- include "crease.containerSecurity" $ | nindent 12 }}
        - {{ include "crease.migration" $ | nindent 10 | trim }}
      {{- end }}
      containers:
        - name: {{ $program }}
          image: {{ include "crease.image" (list $ $program) }}
          imagePullPolicy: {{ $.Values.image.pullPolicy }}
          env:
            {{- if $port }}
            - {name: CREASE_LISTEN, value: "[::]:{{ $port }}"}
            - {name: CREASE_AUDIENCE, value: {{ $.Values.audience | quote }}}
            - {name: CREASE_DRAIN_SECONDS, value: "15"}
            {{- if ne $program "controller" }}
            - {name: CREASE_ISSUERS, value: {{ include "crease.issuers" $ | quote }}}
            {{- end }}
            {{- end }}
            {{- if and $port $.Values.tracing.endpoint }}
            - {name: CREASE_OTLP_ENDPOINT, value: {{ $.Values.tracing.endpoint | quote }}}
            - {name: CREASE_TRACE_SHARE, value: {{ $.Values.tracing.share | quote }}}
            {{- end }}
            - {name: CREASE_METRICS_LISTEN, value: "[::]:{{ include "crease.metricsPort" . }}"}
            {{- if .creaseToken }}
            - {name: CREASE_TOKEN_FILE, value: /var/run/secrets/crease.dev/token}
            {{- end }}
            {{- if and $port $.Values.tls.secret }}
            - {name: CREASE_TLS_CERTIFICATE, value: /var/run/secrets/tls/tls.crt}
            - {name: CREASE_TLS_KEY, value: /var/run/secrets/tls/tls.key}
            {{- if $.Values.tls.caConfigMap }}
            - {name: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, value: /var/run/secrets/ca/ca.crt}
            {{- end }}
            {{- end }}
            {{- .env | trim | nindent 12 }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- if $port }}
            - {name: grpc, containerPort: {{ $port }}}
            {{- end }}
            - {name: metrics, containerPort: {{ include "crease.metricsPort" . }}}
          {{- if $port }}
          # The gRPC probe of Kubernetes does not support TLS.
          startupProbe:
            {{ ternary "tcpSocket" "grpc" (ne $.Values.tls.secret "") }}: {port: {{ $port }}}
            periodSeconds: 1
            failureThreshold: 60
          readinessProbe:
            {{ ternary "tcpSocket" "grpc" (ne $.Values.tls.secret "") }}: {port: {{ $port }}}
            periodSeconds: 5
          livenessProbe:
            {{ ternary "tcpSocket" "grpc" (ne $.Values.tls.secret "") }}: {port: {{ $port }}}
            periodSeconds: 20
            timeoutSeconds: 5
          {{- end }}
          {{- if and $port (ne $program "controller") }}
          lifecycle:
            # The endpoint is removed before the server drains.
            preStop: {sleep: {seconds: 5}}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "crease.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if .creaseToken }}
            - {name: crease-token, mountPath: /var/run/secrets/crease.dev, readOnly: true}
            {{- end }}
            {{- if .apiToken }}
            - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
            {{- end }}
            {{- if and $port $.Values.tls.secret }}
            - {name: tls, mountPath: /var/run/secrets/tls, readOnly: true}
            {{- if $.Values.tls.caConfigMap }}
            - {name: ca, mountPath: /var/run/secrets/ca, readOnly: true}
            {{- end }}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
        {{- include "crease.tokenVolumes" (list $ .creaseToken .apiToken) | nindent 8 }}
        {{- if and $port $.Values.tls.secret }}
        - {name: tls, secret: {secretName: {{ $.Values.tls.secret }}, defaultMode: 0440}}
        {{- with $.Values.tls.caConfigMap }}
        - {name: ca, configMap: {name: {{ . }}}}
        {{- end }}
        {{- end }}
{{- if and $port (ne $program "controller") }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
spec:
  selector:
    {{- include "crease.selector" (list $ $program) | nindent 4 }}
  ports:
    - {name: grpc, port: {{ $port }}, targetPort: grpc, appProtocol: {{ ternary "https" "kubernetes.io/h2c" (ne $.Values.tls.secret "") }}}
{{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
spec:
  maxUnavailable: {{ $values.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "crease.selector" (list $ $program) | nindent 6 }}
{{- if $autoscaled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ $values.replicas }}
  maxReplicas: {{ $values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $values.autoscaling.cpuPercent }}}}
{{- end }}
{{- end -}}
