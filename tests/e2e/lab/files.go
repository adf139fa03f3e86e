package main

import (
	"bytes"
	"embed"
	"os"
	"strings"
	"text/template"
)

// The times are short, because tests wait for them: a lost node is noticed in 12 s, and its pods leave after 10 s more. They
// are those of kind-config.yaml.

func apiserverFlags(s *settings) []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=" + controlIP,
		"--allow-privileged=true", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--profiling=false",
		"--client-ca-file=" + s.pki("ca.crt"),
		"--tls-cert-file=" + s.pki("apiserver.crt"), "--tls-private-key-file=" + s.pki("apiserver.key"),
		"--kubelet-certificate-authority=" + s.pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + s.pki("kubelet-client.crt"), "--kubelet-client-key=" + s.pki("kubelet-client.key"),
		"--requestheader-client-ca-file=" + s.pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + s.pki("front-proxy.crt"), "--proxy-client-key-file=" + s.pki("front-proxy.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + s.pki("sa.pub"), "--service-account-signing-key-file=" + s.pki("sa.key"),
		"--service-cluster-ip-range=" + serviceNet,
		"--default-not-ready-toleration-seconds=10", "--default-unreachable-toleration-seconds=10",
	}
}

func controllerFlags(s *settings) []string {
	who := s.kubeconfig("controller")
	return []string{
		"--kubeconfig=" + who, "--authentication-kubeconfig=" + who, "--authorization-kubeconfig=" + who,
		"--leader-elect=false", "--use-service-account-credentials=true", "--bind-address=127.0.0.1", "--profiling=false",
		"--root-ca-file=" + s.pki("ca.crt"), "--service-account-private-key-file=" + s.pki("sa.key"),
		"--cluster-signing-cert-file=" + s.pki("ca.crt"), "--cluster-signing-key-file=" + s.pki("ca.key"),
		"--node-monitor-period=2s", "--node-monitor-grace-period=12s",
	}
}

func schedulerFlags(s *settings) []string {
	who := s.kubeconfig("scheduler")
	return []string{
		"--kubeconfig=" + who, "--authentication-kubeconfig=" + who, "--authorization-kubeconfig=" + who,
		"--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false",
	}
}

const containerdToml = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[debug]
  level = "warn"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/keepstone-e2e/pause:v1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{.CNI}}"
    conf_dir = "{{.Dir}}/{{.Node}}/cni.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

const cniConf = `{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "{{.Pods}}"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

const kubeletYAML = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: {{.Cgroup}}
failSwapOn: false
oomScoreAdj: 0
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "{{.Dir}}/pki/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "{{.Dir}}/pki/{{.Node}}-serving.crt"
tlsPrivateKeyFile: "{{.Dir}}/pki/{{.Node}}-serving.key"
clusterDNS: [{{.DNS}}]
clusterDomain: cluster.local
resolvConf: "{{.Dir}}/{{.Node}}/resolv.conf"
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 10
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
`

// No limits on connections tracked: they are the whole machine's, and not to be set from a network namespace.
const proxyYAML = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: "{{.Dir}}/pki/proxy.kubeconfig"}
mode: iptables
clusterCIDR: 10.244.0.0/16
detectLocalMode: ClusterCIDR
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 0s, syncPeriod: 30s}
`

//go:embed manifests
var manifestFiles embed.FS

func fill(text string, s *settings, at place) []byte {
	var out bytes.Buffer
	values := map[string]string{
		"Dir": s.Dir, "CNI": cniPlugins, "DNS": dnsService, "Node": at.name, "Pods": at.pods, "Cgroup": s.cgroup(at.name),
	}
	// Nothing of a text of ours can fail; a test fills all of them.
	if err := template.Must(template.New("").Option("missingkey=error").Parse(text)).Execute(&out, values); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func proxyConfig(s *settings) []byte { return fill(proxyYAML, s, place{}) }

func writeNodeFiles(s *settings, at place) error {
	if err := os.MkdirAll(s.in(at.name, "cni.d"), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"containerd.toml": containerdToml, "cni.d/10-lab.conflist": cniConf, "kubelet.yaml": kubeletYAML, "resolv.conf": "",
	} {
		if err := os.WriteFile(s.in(at.name, name), fill(text, s, at), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manifests are what every cluster has: names and volumes.
func manifests(s *settings) (string, error) {
	entries, err := manifestFiles.ReadDir("manifests")
	var all []string
	for _, entry := range entries {
		text, err := manifestFiles.ReadFile("manifests/" + entry.Name())
		if err != nil {
			return "", err
		}
		all = append(all, string(fill(string(text), s, place{})))
	}
	return strings.Join(all, "---\n"), err
}
