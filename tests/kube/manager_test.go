package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// The operator itself, two of them, with the rights that the chart gives them and no others, in a real API server. No
// kubelet is there: the test makes the first pod and its claim, and no member ever answers.

const core, apps = "/api/v1/namespaces/default/", "/apis/apps/v1/namespaces/default/"

// operator is one process of it.
type operator struct {
	*process
	url string
}

func startOperator(t *testing.T, name, kubeconfig string) *operator {
	t.Helper()
	bin := os.Getenv("KEEPSTONE_OPERATOR_BIN")
	if bin == "" {
		t.Fatal("KEEPSTONE_OPERATOR_BIN must name the operator under test")
	}
	listen := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	o := &operator{url: "http://" + listen, process: &process{
		name: name, bin: bin, log: logFile(t, t.TempDir(), name+".log"),
		env: []string{"KUBECONFIG=" + kubeconfig, "POD_NAME=" + name, "POD_NAMESPACE=" + operatorHome},
		args: []string{
			"manager", "--listen=" + listen, "--lease-name=keepstone-operator", "--cluster-domain=cluster.local",
			"--image-registry=registry.example/keepstone", "--log-level=info", "--log-format=text",
		},
	}}
	o.start(t)
	t.Cleanup(o.end)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", name, o.tail(60))
		}
	})
	return o
}

// page is what it answers at a path; an error where that is not 200.
func (o *operator) page(path string) (string, error) {
	answer, err := http.Get(o.url + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return string(text), err
}

func (o *operator) leads() bool {
	text, err := o.page("/metrics")
	return err == nil && strings.Contains(text, "\nkeepstone_operator_leader 1\n")
}

// object is what is at a path; none where there is nothing.
func (a *api) object(ctx context.Context, path string) (tree, error) {
	answer, err := a.call(ctx, "GET", path, nil, "", nil)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var o tree
	return o, json.Unmarshal(answer, &o)
}

// at is what stands in an object under these keys.
func at(o tree, keys ...string) any {
	var value any = o
	for _, key := range keys {
		inner, _ := value.(tree)
		value = inner[key]
	}
	return value
}

// there waits until an object is there and as it should be.
func there(ctx context.Context, t *testing.T, a *api, path string, right func(tree) bool) tree {
	t.Helper()
	var found tree
	eventually(ctx, t, path, func() error {
		o, err := a.object(ctx, path)
		switch {
		case err != nil:
			return err
		case o == nil:
			return errors.New("it is not there")
		case right != nil && !right(o):
			return fmt.Errorf("it is %v", o)
		}
		found = o
		return nil
	})
	return found
}

func TestOperator(t *testing.T) {
	ctx, c, a := startAPI(t)
	h := newHelm(ctx, t, c.config)
	namespace(ctx, t, a, operatorHome)
	h.run(t, "install", "keepstone-operator", operatorChart, "--namespace", operatorHome, "--set", "rbac.monitoring=true")
	installMonitoring(ctx, t, a)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	writeKubeconfig(t, kubeconfig, c.config, operatorUser)
	both := []*operator{startOperator(t, "operator-1", kubeconfig), startOperator(t, "operator-2", kubeconfig)}
	for _, o := range both {
		for _, page := range []string{"/livez", "/readyz"} {
			eventually(ctx, t, o.name+page, func() error { _, err := o.page(page); return err })
		}
	}
	main := operatorGroup + "/namespaces/default/etcdclusters/main"
	body := marshal(t, tree{
		"apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdCluster",
		"metadata": tree{"name": "main"}, "spec": tree{"version": "v0.1.0"},
	})
	if _, err := a.call(ctx, "POST", clusters.collection("default"), nil, "application/json", body); err != nil {
		t.Fatal(err)
	}
	t.Run("objects", func(t *testing.T) { checkMade(ctx, t, a, main) })
	t.Run("permit", func(t *testing.T) { checkPermit(ctx, t, a) })
	t.Run("drift", func(t *testing.T) { checkDrift(ctx, t, a) })
	t.Run("monitoring", func(t *testing.T) { checkMonitoring(ctx, t, a, main) })
	t.Run("bundle", func(t *testing.T) { checkBundle(ctx, t, a, main, c.config.CAFile) })
	t.Run("leaders", func(t *testing.T) { checkLeaders(ctx, t, a, both) })
	t.Run("deletion", func(t *testing.T) { checkDeletion(ctx, t, a, main) })
	for _, o := range both {
		log, err := os.ReadFile(o.log)
		if err != nil || strings.Contains(strings.ToLower(string(log)), "forbidden") {
			t.Errorf("%s did what it has no right to, or left no log: %v", o.name, err)
		}
	}
}

// checkMade wants all that a cluster needs before its first pod.
func checkMade(ctx context.Context, t *testing.T, a *api, main string) {
	set := there(ctx, t, a, apps+"statefulsets/main", nil)
	if got := at(set, "spec", "replicas"); got != 1.0 {
		t.Errorf("%v replicas before there is a cluster", got)
	}
	for _, name := range []string{
		"services/main-peers", "serviceaccounts/main", "configmaps/main-ca", "secrets/main-ca-key", "secrets/main-server-tls",
		"secrets/main-peer-tls", "secrets/main-operator-tls", "secrets/main-client-tls",
	} {
		there(ctx, t, a, core+name, nil)
	}
	there(ctx, t, a, "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/main", nil)
	there(ctx, t, a, core+"services/main-client", func(o tree) bool { return at(o, "spec", "selector") == nil })
	there(ctx, t, a, main, func(o tree) bool {
		return at(o, "status", "operation", "type") == "Bootstrap" && at(o, "status", "phase") == "Bootstrapping" &&
			at(o, "status", "clusterID") == nil && conditionOf(o, "Available") == "False Bootstrapping"
	})
	eventually(ctx, t, "events", func() error {
		o, err := a.object(ctx, "/apis/events.k8s.io/v1/namespaces/default/events")
		if err != nil || !strings.Contains(fmt.Sprint(o), "keepstone.io/operator") {
			return fmt.Errorf("none of the operator's: %v", err)
		}
		return nil
	})
}

func conditionOf(o tree, kind string) string {
	all, _ := at(o, "status", "conditions").([]any)
	for _, one := range all {
		if c := one.(tree); c["type"] == kind {
			return fmt.Sprint(c["status"], " ", c["reason"])
		}
	}
	return ""
}

// checkPermit makes the pod and the claim that controllers would make, and wants leave to found for that pod alone.
func checkPermit(ctx context.Context, t *testing.T, a *api) {
	set := there(ctx, t, a, apps+"statefulsets/main", nil)
	uid := makeSeed(ctx, t, a, set)
	there(ctx, t, a, core+"configmaps/main-permit", func(o tree) bool {
		permit, _ := at(o, "data", "permit").(string)
		return strings.Contains(permit, `"found"`) && strings.Contains(permit, uid) && strings.Contains(permit, "main-0")
	})
	there(ctx, t, a, core+"pods/main-0", func(o tree) bool {
		return at(o, "metadata", "annotations", "keepstone.io/permit") != nil
	})
}

// checkDrift changes and deletes what the operator made.
func checkDrift(ctx context.Context, t *testing.T, a *api) {
	before := there(ctx, t, a, core+"services/main-peers", nil)
	if _, err := a.call(ctx, "DELETE", core+"services/main-peers", nil, "", nil); err != nil {
		t.Fatal(err)
	}
	there(ctx, t, a, core+"services/main-peers", func(o tree) bool {
		return at(o, "metadata", "uid") != at(before, "metadata", "uid")
	})
	patch := marshal(t, tree{"spec": tree{"publishNotReadyAddresses": false}})
	if _, err := a.call(ctx, "PATCH", core+"services/main-peers", nil, mergePatch, patch); err != nil {
		t.Fatal(err)
	}
	there(ctx, t, a, core+"services/main-peers", func(o tree) bool {
		return at(o, "spec", "publishNotReadyAddresses") == true
	})
	// What the spec asks for no longer has to go, also from what was created and not applied.
	main := operatorGroup + "/namespaces/default/etcdclusters/main"
	for _, value := range []any{tree{"team": "a"}, nil} {
		patch := marshal(t, tree{"spec": tree{"podTemplate": tree{"spec": tree{"nodeSelector": value}}}})
		if _, err := a.call(ctx, "PATCH", main, nil, mergePatch, patch); err != nil {
			t.Fatal(err)
		}
		there(ctx, t, a, apps+"statefulsets/main", func(o tree) bool {
			return (at(o, "spec", "template", "spec", "nodeSelector") == nil) == (value == nil)
		})
	}
}

// monitoringPath is where the kinds of the Prometheus operator are.
const monitoringPath = "/apis/monitoring.coreos.com/v1/namespaces/default/"

// installMonitoring makes CRDs of the names that the Prometheus operator has, which take everything.
func installMonitoring(ctx context.Context, t *testing.T, a *api) {
	t.Helper()
	for plural, name := range map[string]string{"podmonitors": "PodMonitor", "prometheusrules": "PrometheusRule"} {
		open := tree{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
		body := marshal(t, tree{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": tree{"name": plural + ".monitoring.coreos.com"},
			"spec": tree{
				"group": "monitoring.coreos.com", "scope": "Namespaced",
				"names":    tree{"plural": plural, "singular": strings.ToLower(name), "kind": name, "listKind": name + "List"},
				"versions": []tree{{"name": "v1", "served": true, "storage": true, "schema": tree{"openAPIV3Schema": open}}},
			},
		})
		if _, err := a.call(ctx, "POST", crdPath, nil, "application/json", body); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, "serve "+plural, func() error {
			_, err := a.call(ctx, "GET", monitoringPath+plural, nil, "", nil)
			return err
		})
	}
}

// gone waits until there is nothing at a path.
func gone(ctx context.Context, t *testing.T, a *api, path string) {
	t.Helper()
	eventually(ctx, t, path, func() error {
		o, err := a.object(ctx, path)
		if err == nil && o != nil {
			err = errors.New("it is there still")
		}
		return err
	})
}

// change patches an object.
func change(ctx context.Context, t *testing.T, a *api, path string, patch tree) {
	t.Helper()
	if _, err := a.call(ctx, "PATCH", path, nil, mergePatch, marshal(t, patch)); err != nil {
		t.Fatal(err)
	}
}

// checkMonitoring switches it on and off: what was made has to go, and what somebody else made of the name has to stay.
func checkMonitoring(ctx context.Context, t *testing.T, a *api, main string) {
	both := []string{monitoringPath + "podmonitors/main", monitoringPath + "prometheusrules/main"}
	enabled := func(pods, rules bool) tree {
		return tree{"spec": tree{"monitoring": tree{
			"podMonitor": tree{"enabled": pods}, "prometheusRule": tree{"enabled": rules},
		}}}
	}
	change(ctx, t, a, main, enabled(true, true))
	for _, path := range both {
		there(ctx, t, a, path, nil)
	}
	change(ctx, t, a, main, enabled(false, true))
	gone(ctx, t, a, both[0])
	there(ctx, t, a, both[1], nil)
	change(ctx, t, a, main, enabled(false, false))
	gone(ctx, t, a, both[1])

	foreign := marshal(t, tree{"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": tree{"name": "main"}})
	if _, err := a.call(ctx, "POST", monitoringPath+"podmonitors", nil, "application/json", foreign); err != nil {
		t.Fatal(err)
	}
	before := there(ctx, t, a, both[0], nil)
	// Something that takes a pass which would have deleted it.
	change(ctx, t, a, main, enabled(false, true))
	there(ctx, t, a, both[1], nil)
	change(ctx, t, a, main, enabled(false, false))
	gone(ctx, t, a, both[1])
	there(ctx, t, a, both[0], func(o tree) bool { return at(o, "metadata", "uid") == at(before, "metadata", "uid") })
}

// checkBundle has the user's own CAs come, change and go.
func checkBundle(ctx context.Context, t *testing.T, a *api, main, caFile string) {
	first, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	trusted := core + "configmaps/main-ca"
	own, _ := at(there(ctx, t, a, trusted, nil), "data", "own.crt").(string)
	trusts := func(extra string) {
		t.Helper()
		there(ctx, t, a, trusted, func(o tree) bool {
			return at(o, "data", "ca.crt") == own+extra && at(o, "data", "own.crt") == own
		})
	}
	secret := tree{
		"apiVersion": "v1", "kind": "Secret", "metadata": tree{"name": "more-cas"}, "stringData": tree{"ca.crt": string(first)},
	}
	if _, err := a.call(ctx, "POST", core+"secrets", nil, "application/json", marshal(t, secret)); err != nil {
		t.Fatal(err)
	}
	named := func(name any) {
		t.Helper()
		cfg := tree{"autoCfg": tree{"caBundleSecret": name}}
		change(ctx, t, a, main, tree{"spec": tree{"tls": tree{"providerCfg": cfg}}})
	}
	nudge := func(value string) {
		t.Helper()
		change(ctx, t, a, main, tree{"metadata": tree{"annotations": tree{"test/nudge": value}}})
	}
	named("more-cas")
	trusts(string(first))
	// What is no certificate would have members refuse the whole file: it is left as it was.
	change(ctx, t, a, core+"secrets/more-cas", tree{"stringData": tree{"ca.crt": "no certificate"}})
	nudge("1")
	second := string(first) + string(first)
	change(ctx, t, a, core+"secrets/more-cas", tree{"stringData": tree{"ca.crt": second}})
	nudge("2")
	trusts(second)
	named(nil)
	trusts("")
}

// checkLeaders wants one to lead, and the other to go on when that one is told to end.
func checkLeaders(ctx context.Context, t *testing.T, a *api, both []*operator) {
	leader := func() int {
		switch first, second := both[0].leads(), both[1].leads(); {
		case first && second:
			t.Fatal("both lead")
		case first:
			return 0
		case second:
			return 1
		}
		return -1
	}
	eventually(ctx, t, "lead", func() error {
		if leader() < 0 {
			return errors.New("nobody does")
		}
		return nil
	})
	old := leader()
	if err := both[old].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-both[old].died
	if code := both[old].cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	eventually(ctx, t, "lead on", func() error {
		if !both[1-old].leads() {
			return errors.New("it does not")
		}
		return nil
	})
	if _, err := a.call(ctx, "DELETE", core+"services/main-peers", nil, "", nil); err != nil {
		t.Fatal(err)
	}
	there(ctx, t, a, core+"services/main-peers", nil)
}

// checkDeletion wants the finalizer gone once the StatefulSet is, and the claim kept, as the spec has it.
func checkDeletion(ctx context.Context, t *testing.T, a *api, main string) {
	if _, err := a.call(ctx, "DELETE", main, nil, "", nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{main, apps + "statefulsets/main"} {
		eventually(ctx, t, path, func() error {
			o, err := a.object(ctx, path)
			if err == nil && o != nil {
				err = errors.New("it is there still")
			}
			return err
		})
	}
	there(ctx, t, a, core+"persistentvolumeclaims/data-main-0", nil)
}
