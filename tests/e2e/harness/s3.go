package harness

// The S3 server's bucket, and where it is.
const (
	s3Access = "keepstone"
	s3Secret = "not so secret"
)

// Store is where backups go, as a spec has it, in one line.
const Store = "{s3: {endpoint: \"http://s3:7070\", bucket: backups, forcePathStyle: true, prefix: e2e, credentialsSecretRef: {name: s3}}}"

// StartS3 starts a real S3 server in the scenario's namespace, with an empty bucket.
func (w *World) StartS3() {
	w.T.Helper()
	w.Apply(`apiVersion: v1
kind: Secret
metadata: {name: s3}
stringData: {accessKeyID: %[1]s, secretAccessKey: %[2]q}
---
apiVersion: v1
kind: Service
metadata: {name: s3}
spec: {selector: {app: s3}, ports: [{port: 7070}]}
---
apiVersion: v1
kind: Pod
metadata: {name: s3, labels: {app: s3}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: s3
      image: keepstone-e2e/s3:v1
      args: [--port, ":7070", --access, %[1]s, --secret, %[2]q, posix, --sidecar, /sidecar, /data]
      readinessProbe: {tcpSocket: {port: 7070}, periodSeconds: 1}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts:
        - {name: data, mountPath: /data}
        # A bucket is a directory.
        - {name: data, mountPath: /data/backups, subPath: backups}
        - {name: sidecar, mountPath: /sidecar}
  volumes: [{name: data, emptyDir: {}}, {name: sidecar, emptyDir: {}}]
`, s3Access, s3Secret)
	w.AwaitPod("s3", Ready)
}
