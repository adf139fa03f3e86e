package kube

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	k8syaml "sigs.k8s.io/yaml"
)

// TestKindConfig decodes kind-config.yaml as kind does: into kind's own types, and a field it doesn't know is an error.
// It starts nothing.
func TestKindConfig(t *testing.T) {
	text, err := os.ReadFile("../../kind-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config v1alpha4.Cluster
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	if config.APIVersion != "kind.x-k8s.io/v1alpha4" || config.Kind != "Cluster" {
		t.Errorf("it is a %s %s", config.APIVersion, config.Kind)
	}
	v1alpha4.SetDefaultsCluster(&config)
	var roles, zones []string
	for _, node := range config.Nodes {
		roles = append(roles, string(node.Role))
		zones = append(zones, node.Labels["topology.kubernetes.io/zone"])
	}
	if want := []string{"control-plane", "worker", "worker", "worker"}; !slices.Equal(roles, want) {
		t.Errorf("nodes are %v, want %v: three members need three nodes", roles, want)
	}
	if want := []string{"", "a", "b", "c"}; !slices.Equal(zones, want) {
		t.Errorf("zones are %v, want %v", zones, want)
	}
	checkPatches(t, &config)
}

// checkPatches looks into the texts that kind hands on to kubeadm: there a mistake shows only in a cluster that behaves
// otherwise.
func checkPatches(t *testing.T, config *v1alpha4.Cluster) {
	t.Helper()
	kinds := map[string]string{}
	for _, patch := range config.KubeadmConfigPatches {
		var header struct{ APIVersion, Kind string }
		if err := k8syaml.Unmarshal([]byte(patch), &header); err != nil {
			t.Fatal(err)
		}
		kinds[header.Kind] = header.APIVersion
		if header.Kind != "KubeletConfiguration" {
			continue
		}
		if err := k8syaml.UnmarshalStrict([]byte(patch), &kubelet.KubeletConfiguration{}); err != nil {
			t.Error(err)
		}
	}
	if kinds["KubeletConfiguration"] != "kubelet.config.k8s.io/v1beta1" || kinds["ClusterConfiguration"] != "kubeadm.k8s.io/v1beta3" {
		t.Errorf("patches are of %v", kinds)
	}
	for _, patch := range config.KubeadmConfigPatchesJSON6902 {
		var steps []struct {
			Op, Path string
			Value    struct{ Name, Value string }
		}
		if err := k8syaml.UnmarshalStrict([]byte(patch.Patch), &steps); err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			if step.Op != "add" || step.Value.Name == "" || step.Value.Value == "" {
				t.Errorf("a step is %+v", step)
			}
		}
	}
}
