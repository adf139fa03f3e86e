package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"k8s.io/client-go/rest"
	k8syaml "sigs.k8s.io/yaml"
)

// The charts, by real helm into a real API server. There are no controllers: what is looked at is what helm makes, and
// what the API server says to it.

const (
	operatorChart = "../../charts/keepstone-operator"
	clusterChart  = "../../charts/keepstone-cluster"
	operatorHome  = "keepstone-system"
	operatorUser  = "system:serviceaccount:keepstone-system:keepstone-operator"
)

// helm runs the program, against the cluster when there is one.
type helm struct {
	ctx context.Context
	bin string
	env []string
}

func newHelm(ctx context.Context, t *testing.T, config *rest.Config) *helm {
	t.Helper()
	dir := t.TempDir()
	h := &helm{ctx: ctx, bin: toolBin(t, "HELM_BIN", "helm")}
	h.env = []string{"HOME=" + dir, "HELM_DRIVER=secret", "KUBECONFIG=" + filepath.Join(dir, "kubeconfig")}
	if config != nil {
		writeKubeconfig(t, filepath.Join(dir, "kubeconfig"), config)
	}
	return h
}

// writeKubeconfig may name a user to be taken for: what that one may not do is refused.
func writeKubeconfig(t *testing.T, path string, config *rest.Config, as ...string) {
	t.Helper()
	user := tree{"client-certificate": config.CertFile, "client-key": config.KeyFile}
	if len(as) > 0 {
		user["as"] = as[0]
	}
	named := func(kind string, value tree) []tree { return []tree{{"name": "test", kind: value}} }
	text := marshal(t, tree{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": named("cluster", tree{"server": config.Host, "certificate-authority": config.CAFile}),
		"users":    named("user", user),
		"contexts": named("context", tree{"cluster": "test", "user": "test"}),
	})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *helm) try(args ...string) (string, error) {
	command := exec.CommandContext(h.ctx, h.bin, args...)
	command.Env = h.env
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (h *helm) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rendered are the objects that a chart makes of values.
func (h *helm) rendered(t *testing.T, chart string, values tree) []tree {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.json")
	if err := os.WriteFile(file, marshal(t, values), 0o600); err != nil {
		t.Fatal(err)
	}
	out := h.run(t, "template", "keepstone-operator", chart, "--namespace", operatorHome, "--values", file)
	var all []tree
	for _, part := range strings.Split(out, "\n---\n") {
		var one tree
		// A field twice is an error here.
		if err := k8syaml.UnmarshalStrict([]byte(part), &one); err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

// everything turns on all that is off.
var everything = tree{
	"replicas":          3,
	"imagePullSecrets":  []tree{{"name": "regcred"}},
	"rbac":              tree{"certManager": true, "monitoring": true},
	"serviceAccount":    tree{"annotations": tree{"example.com/role": "operator"}},
	"podLabels":         tree{"team": "storage"},
	"podAnnotations":    tree{"example.com/note": "kept"},
	"nodeSelector":      tree{"kubernetes.io/os": "linux"},
	"tolerations":       []tree{{"key": "storage", "operator": "Exists"}},
	"affinity":          tree{"nodeAffinity": tree{}},
	"priorityClassName": "system-cluster-critical",
	"extraEnv":          []tree{{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}},
	"networkPolicy": tree{
		"from":   []tree{{"namespaceSelector": tree{"matchLabels": tree{"name": "monitoring"}}}},
		"egress": []tree{{"ports": []tree{{"port": 6443, "protocol": "TCP"}}}},
	},
	"metrics": tree{
		"podMonitor":     tree{"enabled": true, "labels": tree{"release": "prometheus"}},
		"prometheusRule": tree{"enabled": true, "labels": tree{"release": "prometheus"}},
		"dashboard":      tree{"enabled": true},
	},
}

// TestChartValues needs no cluster: what values there are, and which are refused.
func TestChartValues(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h := newHelm(ctx, t, nil)
	for _, chart := range []string{operatorChart, clusterChart} {
		h.run(t, "lint", "--strict", chart)
		checkDocumented(t, chart)
	}
	for _, wrong := range []string{
		"replica=3", "replicas=0", "replicas=two", "image.repo=x", "logging.level=loud", "crds.keep=maybe",
		"watchNamespaces={A}", "watchNamespaces=default", "metrics.podMonitor.interval=often", "memberImage=",
		"podLabels.a=1,podLabels.b=true",
	} {
		if out, err := h.try("template", "x", operatorChart, "--set", wrong); err == nil {
			t.Errorf("--set %s is taken:\n%s", wrong, out)
		} else if !strings.Contains(err.Error(), "don't meet the specifications of the schema") {
			t.Errorf("--set %s: %v", wrong, err)
		}
	}
	checkRendered(t, h)
}

// checkDocumented wants a comment at every value, and its place in the schema.
func checkDocumented(t *testing.T, chart string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file yaml.Node
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var schema tree
	readYAML(t, filepath.Join(chart, "values.schema.json"), &schema)
	undocumented(t, file.Content[0], schema, "")
}

func undocumented(t *testing.T, values *yaml.Node, schema tree, at string) {
	t.Helper()
	properties, _ := schema["properties"].(tree)
	for i := 0; i < len(values.Content); i += 2 {
		key, value := values.Content[i], values.Content[i+1]
		name := at + key.Value
		known, ok := properties[key.Value].(tree)
		if !ok {
			t.Errorf("%s is not in the schema", name)
		}
		if strings.HasPrefix(lastLine(key.HeadComment), "# --") {
			continue
		}
		if value.Kind != yaml.MappingNode || len(value.Content) == 0 {
			t.Errorf("%s has no comment", name)
			continue
		}
		undocumented(t, value, known, name+".")
	}
}

// lastLine is the comment right above, where the file's own stands above that.
func lastLine(comment string) string {
	parts := strings.Split(comment, "\n\n")
	return parts[len(parts)-1]
}

// checkRendered looks at what no API server would mind.
func checkRendered(t *testing.T, h *helm) {
	t.Helper()
	count := func(values tree) map[string]int {
		kinds := map[string]int{}
		for _, o := range h.rendered(t, operatorChart, values) {
			kinds[o["kind"].(string)]++
		}
		return kinds
	}
	want := map[string]int{
		"ClusterRole": 3, "ClusterRoleBinding": 1, "Role": 1, "RoleBinding": 1, "CustomResourceDefinition": 3,
		"Deployment": 1, "NetworkPolicy": 1, "PodDisruptionBudget": 1, "ServiceAccount": 1,
	}
	if got := count(tree{}); !maps.Equal(got, want) {
		t.Errorf("by default there are %v, want %v", got, want)
	}
	got := count(tree{"watchNamespaces": []string{"a", "b"}, "crds": tree{"enabled": false}, "rbac": tree{"aggregate": false}})
	want = map[string]int{
		"Role": 3, "RoleBinding": 3, "Deployment": 1, "NetworkPolicy": 1, "PodDisruptionBudget": 1, "ServiceAccount": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("in two namespaces there are %v, want %v: nothing may belong to the whole cluster", got, want)
	}
	if got := count(tree{"replicas": 1}); got["PodDisruptionBudget"] != 0 {
		t.Error("one operator with a PodDisruptionBudget: its node could never be drained")
	}
	if got := count(everything); got["PodMonitor"] != 1 || got["PrometheusRule"] != 1 || got["ConfigMap"] != 1 {
		t.Errorf("with everything on there are %v", got)
	}
	for _, o := range h.rendered(t, operatorChart, everything) {
		if data, ok := o["data"].(tree); ok && !json.Valid([]byte(data["keepstone.json"].(string))) {
			t.Error("the dashboard is no JSON")
		}
	}
}

func TestChart(t *testing.T) {
	ctx, c, a := startAPI(t)
	h := newHelm(ctx, t, c.config)
	for _, name := range []string{operatorHome, "team-a", "team-b"} {
		namespace(ctx, t, a, name)
	}

	t.Run("rendered", func(t *testing.T) { checkTaken(ctx, t, a, h) })
	h.run(t, "install", "keepstone-operator", operatorChart, "--namespace", operatorHome)
	for _, k := range operatorKinds {
		eventually(ctx, t, "serve "+k.resource, func() error {
			_, err := a.call(ctx, "GET", k.collection(""), nil, "", nil)
			return err
		})
	}
	t.Run("rights", func(t *testing.T) { checkRights(ctx, t, a, c.config) })
	t.Run("restricted", func(t *testing.T) { checkRestricted(ctx, t, a) })
	t.Run("namespaced", func(t *testing.T) { checkNamespaced(ctx, t, a, h) })
	t.Run("cluster", func(t *testing.T) { checkClusterChart(ctx, t, a, h) })
	t.Run("upgrade", func(t *testing.T) { checkUpgrade(ctx, t, a, h) })
	t.Run("uninstall", func(t *testing.T) { checkUninstall(ctx, t, a, h) })
}

// namespace makes one in which only restricted pods may run.
func namespace(ctx context.Context, t *testing.T, a *api, name string) {
	t.Helper()
	body := marshal(t, tree{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": tree{"name": name, "labels": tree{"pod-security.kubernetes.io/enforce": "restricted"}},
	})
	if _, err := a.call(ctx, "POST", "/api/v1/namespaces", nil, "application/json", body); err != nil {
		t.Fatal(err)
	}
}

// checkTaken has the API server check every object of several sets of values strictly.
func checkTaken(ctx context.Context, t *testing.T, a *api, h *helm) {
	namespaced := tree{"watchNamespaces": []string{"team-a", "team-b"}}
	for _, values := range []tree{{}, namespaced, everything} {
		for _, o := range h.rendered(t, operatorChart, values) {
			if strings.HasPrefix(o["apiVersion"].(string), "monitoring.coreos.com/") {
				continue // its CRDs are not there
			}
			if _, err := a.call(ctx, "POST", pathOf(t, o), dryRun, "application/json", marshal(t, o)); err != nil {
				t.Errorf("%v %s: %v", o["kind"], nameOf(o), err)
			}
		}
	}
}

// pathOf is where objects of this kind are made.
func pathOf(t *testing.T, o tree) string {
	t.Helper()
	plurals := map[string]string{
		"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "ConfigMap": "configmaps",
		"CustomResourceDefinition": "customresourcedefinitions", "Deployment": "deployments",
		"NetworkPolicy": "networkpolicies", "PodDisruptionBudget": "poddisruptionbudgets", "Role": "roles",
		"RoleBinding": "rolebindings", "ServiceAccount": "serviceaccounts",
	}
	plural, ok := plurals[o["kind"].(string)]
	if !ok {
		t.Fatalf("a chart makes a %v", o["kind"])
	}
	base := "/apis/" + o["apiVersion"].(string)
	if o["apiVersion"] == "v1" {
		base = "/api/v1"
	}
	if metadata := o["metadata"].(tree); metadata["namespace"] != nil {
		base += "/namespaces/" + metadata["namespace"].(string)
	}
	return base + "/" + plural
}

// may asks the API server whether the operator has a right.
func may(ctx context.Context, t *testing.T, a *api, user, namespace, verb, resource, name string) bool {
	t.Helper()
	group, resource, found := strings.Cut(resource, "/")
	if !found {
		group, resource = "", group
	}
	resource, sub, _ := strings.Cut(resource, "/")
	body := marshal(t, tree{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": tree{"user": user, "resourceAttributes": tree{
			"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": sub, "name": name,
		}},
	})
	path := "/apis/authorization.k8s.io/v1/subjectaccessreviews"
	answer, err := a.call(ctx, "POST", path, nil, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Status struct{ Allowed bool } }
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatal(err)
	}
	return got.Status.Allowed
}

// needed is what the operator does; "GROUP/RESOURCE", the core group without its slash.
var needed = map[string][]string{
	"keepstone.io/etcdclusters":            {"get", "list", "watch", "patch"},
	"keepstone.io/etcdclusters/status":     {"patch"},
	"keepstone.io/etcdclusters/finalizers": {"update"},
	"keepstone.io/etcdbackups":             {"get", "list", "watch", "create", "patch", "delete"},
	"keepstone.io/etcdoperations":          {"get", "list", "watch", "create", "patch", "delete"},
	"apps/statefulsets":                    {"get", "list", "watch", "create", "patch", "delete"},
	"pods":                                 {"get", "list", "watch", "patch", "delete"},
	"services":                             {"get", "list", "create", "patch", "delete"},
	"serviceaccounts":                      {"get", "list", "create", "patch", "delete"},
	"configmaps":                           {"get", "list", "create", "patch", "delete"},
	"persistentvolumeclaims":               {"get", "list", "watch", "create", "patch", "delete"},
	"secrets":                              {"get", "create", "patch"},
	"batch/jobs":                           {"list", "create", "delete"},
	"policy/poddisruptionbudgets":          {"get", "list", "create", "patch", "delete"},
	"networking.k8s.io/networkpolicies":    {"get", "list", "create", "patch", "delete"},
	"events.k8s.io/events":                 {"create", "patch"},
}

// forbidden is what would make more of the operator than it is.
var forbidden = map[string][]string{
	"secrets":                                {"list", "watch", "delete", "update", "deletecollection"},
	"pods":                                   {"create", "update", "deletecollection"},
	"pods/exec":                              {"create", "get"},
	"pods/log":                               {"get"},
	"pods/portforward":                       {"create"},
	"pods/ephemeralcontainers":               {"patch"},
	"serviceaccounts/token":                  {"create"},
	"serviceaccounts":                        {"update", "impersonate", "deletecollection"},
	"nodes":                                  {"get", "list"},
	"namespaces":                             {"get", "list", "delete"},
	"persistentvolumes":                      {"get", "delete"},
	"persistentvolumeclaims":                 {"update", "deletecollection"},
	"batch/jobs":                             {"get", "watch", "patch", "update", "deletecollection"},
	"keepstone.io/etcdclusters":              {"create", "update", "delete", "deletecollection"},
	"keepstone.io/etcdbackups":               {"update", "deletecollection"},
	"apps/deployments":                       {"get", "patch"},
	"apps/statefulsets":                      {"update", "deletecollection"},
	"apps/daemonsets":                        {"create"},
	"rbac.authorization.k8s.io/roles":        {"get", "create", "patch", "bind", "escalate"},
	"rbac.authorization.k8s.io/clusterroles": {"get", "create", "patch", "bind", "escalate"},
	"rbac.authorization.k8s.io/rolebindings": {"create", "patch"},
	"apiextensions.k8s.io/customresourcedefinitions":               {"get", "create", "patch", "delete"},
	"admissionregistration.k8s.io/validatingwebhookconfigurations": {"create", "patch"},
	"cert-manager.io/certificates":                                 {"create"},
	"monitoring.coreos.com/podmonitors":                            {"create"},
}

func checkRights(ctx context.Context, t *testing.T, a *api, config *rest.Config) {
	for resource, verbs := range needed {
		for _, verb := range verbs {
			if !may(ctx, t, a, operatorUser, "team-a", verb, resource, "x") {
				t.Errorf("the operator may not %s %s", verb, resource)
			}
		}
	}
	for resource, verbs := range forbidden {
		for _, verb := range verbs {
			if may(ctx, t, a, operatorUser, "team-a", verb, resource, "x") {
				t.Errorf("the operator may %s %s", verb, resource)
			}
		}
	}
	checkLease(ctx, t, a)
	checkGranted(ctx, t, a)
	checkUsers(ctx, t, a)
	checkImpersonated(ctx, t, config)
}

// checkLease wants one lease to be the operator's, and no other.
func checkLease(ctx context.Context, t *testing.T, a *api) {
	t.Helper()
	lease := func(namespace, verb, name string) bool {
		return may(ctx, t, a, operatorUser, namespace, verb, "coordination.k8s.io/leases", name)
	}
	for _, verb := range []string{"get", "update"} {
		if !lease(operatorHome, verb, "keepstone-operator") {
			t.Errorf("the operator may not %s its lease", verb)
		}
		if lease(operatorHome, verb, "another") || lease("team-a", verb, "keepstone-operator") {
			t.Errorf("the operator may %s another's lease", verb)
		}
	}
	if !lease(operatorHome, "create", "") || lease("team-a", "create", "") {
		t.Error("the operator must be able to make a lease in its own namespace, and in no other")
	}
}

// checkGranted wants no more than what `needed` has: rights nobody asked about would not be noticed else.
func checkGranted(ctx context.Context, t *testing.T, a *api) {
	t.Helper()
	var role struct {
		Rules []struct{ APIGroups, Resources, Verbs []string }
	}
	path := "/apis/rbac.authorization.k8s.io/v1/clusterroles/" + operatorHome + "-keepstone-operator"
	fetch(ctx, t, a, path, &role)
	rights := 0
	also := map[string][]string{
		"keepstone.io/etcdbackups/status": {"patch"}, "keepstone.io/etcdbackups/finalizers": {"update"},
		"keepstone.io/etcdoperations/status": {"patch"}, "keepstone.io/etcdoperations/finalizers": {"update"},
	}
	maps.Copy(also, needed)
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				if group != "" {
					resource = group + "/" + resource
				}
				for _, verb := range rule.Verbs {
					rights++
					if !slices.Contains(also[resource], verb) {
						t.Errorf("the operator may %s %s, and nobody says why", verb, resource)
					}
				}
			}
		}
	}
	t.Logf("the operator has %d rules, %d rights", len(role.Rules), rights)
}

// checkUsers sees that who may edit a namespace may so do with clusters; their roles are put together by a controller
// that is not there, so what it would look at is looked at.
func checkUsers(ctx context.Context, t *testing.T, a *api) {
	t.Helper()
	for _, kind := range []string{"view", "edit"} {
		var role struct {
			Metadata struct{ Labels map[string]string }
		}
		path := "/apis/rbac.authorization.k8s.io/v1/clusterroles/" + operatorHome + "-keepstone-operator-" + kind
		fetch(ctx, t, a, path, &role)
		if role.Metadata.Labels["rbac.authorization.k8s.io/aggregate-to-"+kind] != "true" {
			t.Errorf("%s is not aggregated", kind)
		}
	}
}

// checkImpersonated goes the whole way as the operator: the API server's own answers, not what it says of them.
func checkImpersonated(ctx context.Context, t *testing.T, config *rest.Config) {
	t.Helper()
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{UserName: operatorUser}
	operator, err := newAPI(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.call(ctx, "GET", clusters.collection(""), nil, "", nil); err != nil {
		t.Error(err)
	}
	_, err = operator.call(ctx, "GET", "/api/v1/secrets", nil, "", nil)
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("it lists all Secrets: %v", err)
	}
	lease := tree{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": tree{"name": "keepstone-operator"}}
	path := "/apis/coordination.k8s.io/v1/namespaces/" + operatorHome + "/leases"
	if _, err := operator.call(ctx, "POST", path, nil, "application/json", marshal(t, lease)); err != nil {
		t.Error(err)
	}
}

// checkRestricted makes a pod as the Deployment would, where only restricted ones may run.
func checkRestricted(ctx context.Context, t *testing.T, a *api) {
	var deployment struct {
		Spec struct {
			Replicas int
			Template struct{ Metadata, Spec tree }
		}
	}
	path := "/apis/apps/v1/namespaces/" + operatorHome + "/deployments/keepstone-operator"
	fetch(ctx, t, a, path, &deployment)
	if deployment.Spec.Replicas != 2 {
		t.Errorf("there are %d replicas", deployment.Spec.Replicas)
	}
	template := deployment.Spec.Template
	template.Metadata["name"] = "like-the-operator"
	pod := tree{"apiVersion": "v1", "kind": "Pod", "metadata": template.Metadata, "spec": template.Spec}
	path = "/api/v1/namespaces/" + operatorHome + "/pods"
	if _, err := a.call(ctx, "POST", path, dryRun, "application/json", marshal(t, pod)); err != nil {
		t.Error(err)
	}
	container := template.Spec["containers"].([]any)[0].(tree)
	security := container["securityContext"].(tree)
	if security["readOnlyRootFilesystem"] != true {
		t.Error("the root file system can be written")
	}
	// The rule is really in force.
	delete(container, "securityContext")
	_, err := a.call(ctx, "POST", path, dryRun, "application/json", marshal(t, pod))
	if err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Errorf("a pod without bounds: %v", err)
	}
}

// checkNamespaced installs another operator that looks after one namespace.
func checkNamespaced(ctx context.Context, t *testing.T, a *api, h *helm) {
	h.run(t, "install", "mine", operatorChart, "--namespace", "team-b", "--set", "crds.enabled=false", "--set", "rbac.aggregate=false",
		"--set", "watchNamespaces={team-a}")
	user := "system:serviceaccount:team-b:mine-keepstone-operator"
	for namespace, want := range map[string]bool{"team-a": true, "team-b": false, "": false} {
		if may(ctx, t, a, user, namespace, "list", "keepstone.io/etcdclusters", "") != want {
			t.Errorf("in %q, %s may list clusters: want %v", namespace, user, want)
		}
		if may(ctx, t, a, user, namespace, "get", "secrets", "x") != want {
			t.Errorf("in %q, %s may read a Secret: want %v", namespace, user, want)
		}
	}
	h.run(t, "uninstall", "mine", "--namespace", "team-b")
}

// checkClusterChart has a cluster as a release.
func checkClusterChart(ctx context.Context, t *testing.T, a *api, h *helm) {
	h.run(t, "install", "main", clusterChart, "--namespace", "team-a", "--set", "spec.storageSpec.volumeSizeRequest=1Gi")
	var got struct {
		Spec struct {
			Size        int
			Version     string
			StorageSpec struct{ VolumeSizeRequest string }
			TLS         struct{ Provider string }
		}
	}
	path := clusters.collection("team-a") + "/main"
	fetch(ctx, t, a, path, &got)
	if s := got.Spec; s.Size != 3 || s.Version != "v0.1.0" || s.StorageSpec.VolumeSizeRequest != "1Gi" || s.TLS.Provider != "auto" {
		t.Errorf("the cluster is %+v", s)
	}
	_, err := h.try("upgrade", "main", clusterChart, "--namespace", "team-a", "--reuse-values", "--set", "spec.size=0")
	if err == nil || !strings.Contains(err.Error(), "set hibernate: true") {
		t.Errorf("upgrade to no members: %v", err)
	}
	h.run(t, "upgrade", "main", clusterChart, "--namespace", "team-a", "--reuse-values", "--set", "spec.size=5")
	fetch(ctx, t, a, path, &got)
	if got.Spec.Size != 5 {
		t.Errorf("after the upgrade: %+v", got.Spec)
	}
}

func checkUpgrade(ctx context.Context, t *testing.T, a *api, h *helm) {
	h.run(t, "upgrade", "keepstone-operator", operatorChart, "--namespace", operatorHome, "--set", "replicas=3,rbac.certManager=true")
	if !may(ctx, t, a, operatorUser, "team-a", "create", "cert-manager.io/certificates", "") {
		t.Error("the upgrade gave no right on Certificates")
	}
	h.run(t, "rollback", "keepstone-operator", "1", "--namespace", operatorHome)
	if may(ctx, t, a, operatorUser, "team-a", "create", "cert-manager.io/certificates", "") {
		t.Error("the rollback left the right on Certificates")
	}
}

// checkUninstall wants clusters to outlive the operator, and nothing else of it.
func checkUninstall(ctx context.Context, t *testing.T, a *api, h *helm) {
	h.run(t, "uninstall", "keepstone-operator", "--namespace", operatorHome)
	var got struct {
		Metadata struct{ UID, DeletionTimestamp string }
	}
	path := clusters.collection("team-a") + "/main"
	fetch(ctx, t, a, path, &got)
	if got.Metadata.DeletionTimestamp != "" {
		t.Error("the cluster is being deleted")
	}
	uid := got.Metadata.UID
	if may(ctx, t, a, operatorUser, "team-a", "list", "keepstone.io/etcdclusters", "") {
		t.Error("the operator's rights are still there")
	}
	for _, gone := range []string{
		"/apis/apps/v1/namespaces/" + operatorHome + "/deployments/keepstone-operator",
		"/api/v1/namespaces/" + operatorHome + "/serviceaccounts/keepstone-operator",
		"/apis/policy/v1/namespaces/" + operatorHome + "/poddisruptionbudgets/keepstone-operator",
	} {
		if _, err := a.call(ctx, "GET", gone, url.Values{}, "", nil); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	// It comes back to what it left.
	h.run(t, "install", "keepstone-operator", operatorChart, "--namespace", operatorHome)
	fetch(ctx, t, a, path, &got)
	if got.Metadata.UID != uid {
		t.Error("the cluster is another one")
	}
}
