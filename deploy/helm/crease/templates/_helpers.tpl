{{- /* A name of limited length. A longer one ends with a hash of the whole, so that two never become one: (list 40 $name) */ -}}
{{- define "crease.short" -}}
{{- $length := index . 0 -}}{{- $name := index . 1 -}}
{{- if le (len $name) $length }}{{ $name }}{{ else }}{{ trunc (sub $length 9 | int) $name | trimSuffix "-" }}-{{ sha256sum $name | trunc 8 }}{{ end -}}
{{- end -}}

{{- define "crease.name" -}}
{{- $own := .Values.nameOverride | default "crease" -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $own) (contains $own .Release.Name) -}}
{{- include "crease.short" (list 40 (.Values.fullnameOverride | default $full)) -}}
{{- end -}}

{{- /* The ServiceAccount of a program or of the analyzer: (list $ "jobs") */ -}}
{{- define "crease.account" -}}
{{- $ := index . 0 -}}
{{- dig "serviceAccount" "name" "" (index $.Values (index . 1)) | default (printf "%s-%s" (include "crease.name" $) (index . 1)) -}}
{{- end -}}

{{- define "crease.cluster" -}}
{{- .Values.cluster | default (include "crease.short" (list 63 (printf "%s-%s" .Release.Namespace .Release.Name))) -}}
{{- end -}}

{{- /* The selector labels of a component's pods: (list $ "jobs") */ -}}
{{- define "crease.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: crease
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
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
{{- with $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Which nodes a pod may use, and with which Secrets it pulls: (list $ $values), where $values are those of its program. */ -}}
{{- define "crease.scheduling" -}}
{{- $ := index . 0 -}}{{- $own := index . 1 -}}
{{- with $.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with include "crease.nodeSelector" (list $ $own) | fromYaml }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat $.Values.tolerations (get $own "tolerations" | default list) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "affinity" "priorityClassName" }}
{{- with get $own $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "crease.nodeSelector" -}}
{{- $ := index . 0 -}}{{- $own := index . 1 -}}
{{- $arch := ternary (dict "kubernetes.io/arch" $.Values.image.arch) dict (ne $.Values.image.arch "") -}}
{{- mergeOverwrite dict $arch $.Values.nodeSelector (get $own "nodeSelector" | default dict) | toYaml -}}
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
{{- get (dict "jobs" "50051" "upload" "50052" "controller" "50053" "web" "50060") . -}}
{{- end -}}

{{- define "crease.metricsPort" -}}9090{{- end -}}

{{- define "crease.s3Endpoint" -}}
{{- if .Values.dev.embedded }}http://{{ include "crease.name" . }}-s3.{{ .Release.Namespace }}.svc:4566{{ else }}{{ .Values.s3.endpoint }}{{ end -}}
{{- end -}}

{{- /* The services of an issuer, by subject: of a dict with `services` and `issuer`, where empty means clusterIssuer. */ -}}
{{- define "crease.services" -}}
{{- $services := dict -}}
{{- range .services }}
{{- if eq (.issuer | default "") $.issuer }}{{ $_ := set $services .subject (pick . "name" "may" "owners") }}{{ end -}}
{{- end -}}
{{- $services | toJson -}}
{{- end -}}

{{- /* The trusted issuers of people. */ -}}
{{- define "crease.people" -}}
{{- $issuers := list -}}
{{- range .Values.issuers }}
{{- $one := dict "kind" "people" "issuer" .issuer "jwks_url" .jwksUrl -}}
{{- if hasKey . "ownerPrefix" }}{{ $_ := set $one "owner_prefix" .ownerPrefix }}{{ end -}}
{{- if hasKey . "roles" }}{{ $_ := set $one "roles" .roles }}{{ end -}}
{{- if hasKey . "organisations" }}{{ $_ := set $one "organisations" .organisations }}{{ end -}}
{{- $issuers = append $issuers $one -}}
{{- end -}}
{{- if .Values.dev.embedded -}}
{{- $issuers = append $issuers (dict "kind" "people" "issuer" "crease-laptop/people" "jwks_url" (printf "http://%s-trial:8080/jwks.json" (include "crease.name" .))) -}}
{{- end -}}
{{- $issuers | toJson -}}
{{- end -}}

{{- /* The trusted issuers of a server: for people, for services, and for the programs and pods of this release. */ -}}
{{- define "crease.issuers" -}}
{{- $issuers := include "crease.people" . | fromJsonArray -}}
{{- $known := list "" -}}
{{- range .Values.serviceIssuers }}{{ $known = append $known .issuer }}{{ end -}}
{{- range .Values.services }}
{{- if not (has (.issuer | default "") $known) }}{{ fail (printf "services: serviceIssuers has no issuer %s of the service %s" .issuer .name) }}{{ end -}}
{{- end -}}
{{- range .Values.serviceIssuers }}
{{- $services := include "crease.services" (dict "services" $.Values.services "issuer" .issuer) | fromJson -}}
{{- $issuers = append $issuers (dict "kind" "service" "issuer" .issuer "jwks_url" .jwksUrl "services" $services) -}}
{{- end -}}
{{- $subjects := dict -}}
{{- range list "upload" "controller" "analyzer" }}{{ $_ := set $subjects (printf "system:serviceaccount:%s:%s" $.Release.Namespace (include "crease.account" (list $ .))) . }}{{ end -}}
{{- $cluster := dict "kind" "cluster" "issuer" .Values.clusterIssuer.issuer "jwks_url" .Values.clusterIssuer.jwksUrl "subjects" $subjects "cluster" (include "crease.cluster" .) -}}
{{- if .Values.clusterIssuer.isApiServer -}}
{{- $_ := set $cluster "jwks_ca_file" "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" -}}
{{- $_ := set $cluster "jwks_token_file" "/var/run/secrets/kubernetes.io/serviceaccount/token" -}}
{{- end -}}
{{- with include "crease.services" (dict "services" .Values.services "issuer" "") | fromJson }}{{ $_ := set $cluster "services" . }}{{ end -}}
{{- append $issuers $cluster | toJson -}}
{{- end -}}

{{- define "crease.containerSecurity" -}}
{{- toYaml .Values.containerSecurityContext -}}
{{- end -}}

{{- define "crease.podSecurity" -}}
{{- toYaml .Values.podSecurityContext -}}
{{- end -}}

{{- /* The database URL. */ -}}
{{- define "crease.databaseEnv" -}}
- name: CREASE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ ternary (printf "%s-trial" (include "crease.name" .)) .Values.database.secret .Values.dev.embedded | quote }}
      key: {{ ternary "url" .Values.database.key .Values.dev.embedded }}
{{- end -}}

{{- /* AWS keys from a Secret: (list "name"); empty if the name is empty. */ -}}
{{- define "crease.keys" -}}
{{- with index . 0 }}
- {name: AWS_ACCESS_KEY_ID, valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: AWS_ACCESS_KEY_ID}}}
- {name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: AWS_SECRET_ACCESS_KEY}}}
{{- end }}
{{- end -}}

{{- define "crease.migration" -}}
name: migrate
image: {{ include "crease.image" (list . "jobs") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [migrate]
env:
  {{- include "crease.databaseEnv" . | nindent 2 }}
  {{- with .Values.jobs.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources: {requests: {cpu: 50m, memory: 96Mi}, limits: {memory: 256Mi}}
securityContext:
  {{- include "crease.containerSecurity" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- with .Values.jobs.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
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
       (dict "root" $ "program" "jobs" "env" $env "creaseToken" false "apiToken" true). The page (`web`) speaks HTTP, without TLS, to the login in front of it. */ -}}
{{- define "crease.program" -}}
{{- $ := .root -}}{{- $program := .program -}}{{- $values := index $.Values $program -}}
{{- $name := printf "%s-%s" (include "crease.name" $) $program -}}
{{- $autoscaled := and (hasKey $values "autoscaling") (dig "autoscaling" "enabled" false $values) -}}
{{- $port := include "crease.port" $program -}}
{{- $http := eq $program "web" -}}
{{- $tls := and $port (not $http) $.Values.tls.secret -}}
{{- if $values.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "crease.account" (list $ $program) }}
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
  {{- with $values.serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace | quote }}
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
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "crease.account" (list $ $program) }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      # preStop 5 s + CREASE_DRAIN_SECONDS 15 s + margin.
      terminationGracePeriodSeconds: 30
      {{- include "crease.scheduling" (list $ $values) | nindent 6 }}
      securityContext:
        {{- include "crease.podSecurity" $ | nindent 8 }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "crease.selector" (list $ $program) | nindent 14 }}
        {{- end }}
      {{- if and (eq $program "jobs") (or $.Values.dev.embedded (not $.Values.migration.hook)) }}
      initContainers:
        {{- if $.Values.dev.embedded }}
        - name: reach
          image: {{ include "crease.image" (list $ "trial") }}
          imagePullPolicy: {{ $.Values.image.pullPolicy }}
          args: [reach, {{ include "crease.name" $ }}-postgres, "5432"]
          resources: {requests: {cpu: 20m, memory: 48Mi}, limits: {memory: 128Mi}}
          securityContext:
            {{- include "crease.containerSecurity" $ | nindent 12 }}
        {{- end }}
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
            {{- if and (ne $program "controller") (ne $program "web") }}
            - {name: CREASE_ISSUERS, value: {{ include "crease.issuers" $ | quote }}}
            {{- end }}
            {{- end }}
            {{- if and $port (not $http) $.Values.tracing.endpoint }}
            - {name: CREASE_OTLP_ENDPOINT, value: {{ $.Values.tracing.endpoint | quote }}}
            - {name: CREASE_TRACE_SHARE, value: {{ $.Values.tracing.share | quote }}}
            {{- end }}
            - {name: CREASE_METRICS_LISTEN, value: "[::]:{{ include "crease.metricsPort" . }}"}
            {{- if .creaseToken }}
            - {name: CREASE_TOKEN_FILE, value: /var/run/secrets/crease.dev/token}
            {{- end }}
            {{- if and $port (not $http) $.Values.tls.secret }}
            - {name: CREASE_TLS_CERTIFICATE, value: /var/run/secrets/tls/tls.crt}
            - {name: CREASE_TLS_KEY, value: /var/run/secrets/tls/tls.key}
            {{- end }}
            {{- if and $port $.Values.tls.secret $.Values.tls.caConfigMap }}
            - {name: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, value: /var/run/secrets/ca/ca.crt}
            {{- end }}
            {{- .env | trim | nindent 12 }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- if $port }}
            - {name: {{ ternary "http" "grpc" $http }}, containerPort: {{ $port }}}
            {{- end }}
            - {name: metrics, containerPort: {{ include "crease.metricsPort" . }}}
          {{- if $http }}
          {{- range $probe := list "startupProbe" "readinessProbe" "livenessProbe" }}
          {{ $probe }}:
            httpGet: {path: /healthz, port: http}
            periodSeconds: {{ get (dict "startupProbe" 1 "readinessProbe" 5 "livenessProbe" 20) $probe }}
            failureThreshold: {{ ternary 60 3 (eq $probe "startupProbe") }}
            timeoutSeconds: 5
          {{- end }}
          {{- else if $port }}
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
            {{- include "crease.containerSecurity" $ | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- if .creaseToken }}
            - {name: crease-token, mountPath: /var/run/secrets/crease.dev, readOnly: true}
            {{- end }}
            {{- if .apiToken }}
            - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
            {{- end }}
            {{- if $tls }}
            - {name: tls, mountPath: /var/run/secrets/tls, readOnly: true}
            {{- end }}
            {{- if and $port $.Values.tls.secret $.Values.tls.caConfigMap }}
            - {name: ca, mountPath: /var/run/secrets/ca, readOnly: true}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "crease.tokenVolumes" (list $ .creaseToken .apiToken) | nindent 8 }}
        {{- if $tls }}
        - {name: tls, secret: {secretName: {{ $.Values.tls.secret | quote }}, defaultMode: 0440}}
        {{- end }}
        {{- if and $port $.Values.tls.secret $.Values.tls.caConfigMap }}
        - {name: ca, configMap: {name: {{ $.Values.tls.caConfigMap | quote }}}}
        {{- end }}
{{- if and $port (ne $program "controller") }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
  {{- with $values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type }}
  selector:
    {{- include "crease.selector" (list $ $program) | nindent 4 }}
  ports:
    {{- if $http }}
    - {name: http, port: {{ $port }}, targetPort: http, appProtocol: http}
    {{- else }}
    - {name: grpc, port: {{ $port }}, targetPort: grpc, appProtocol: {{ ternary "https" "kubernetes.io/h2c" (ne $.Values.tls.secret "") }}}
    {{- end }}
{{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace | quote }}
  labels:
    {{- include "crease.labels" (list $ $program) | nindent 4 }}
spec:
  maxUnavailable: {{ $values.maxUnavailable }}
  # A pod that is not ready anyway must not block the drain of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "crease.selector" (list $ $program) | nindent 6 }}
{{- if $autoscaled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace | quote }}
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
