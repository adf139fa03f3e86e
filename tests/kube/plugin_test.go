package kube

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// kubectl keepstone, run as it is shipped, in a real API server and with rights that people have. There is no operator and
// no kubelet: the test says what they would.

const (
	reader = "reader"
	editor = "editor"
	hush   = "what a secret holds"
)

// plugin runs the program under the name by which kubectl finds it.
type plugin struct {
	ctx  context.Context
	t    *testing.T
	a    *api
	bin  string
	conf map[string]string // kubeconfigs by user
}

func newPlugin(ctx context.Context, t *testing.T, c *cluster, a *api) *plugin {
	t.Helper()
	real, err := filepath.Abs(os.Getenv("KEEPSTONE_OPERATOR_BIN"))
	if err != nil || os.Getenv("KEEPSTONE_OPERATOR_BIN") == "" {
		t.Fatal("KEEPSTONE_OPERATOR_BIN must name the operator under test")
	}
	dir := t.TempDir()
	p := &plugin{ctx, t, a, filepath.Join(dir, "kubectl-keepstone"), map[string]string{}}
	if err := os.Symlink(real, p.bin); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{reader, editor} {
		p.conf[user] = filepath.Join(dir, user)
		writeKubeconfig(t, p.conf[user], c.config, user)
	}
	return p
}

// try is what it prints, and the error is what it complains of.
func (p *plugin) try(user string, args ...string) (string, error) {
	command := exec.CommandContext(p.ctx, p.bin, append(args, "--kubeconfig", p.conf[user])...)
	var out, complaint strings.Builder
	command.Stdout, command.Stderr, command.Dir = &out, &complaint, p.t.TempDir()
	err := command.Run()
	if err != nil {
		err = fmt.Errorf("kubectl keepstone %s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return out.String(), err
}

func (p *plugin) run(t *testing.T, user string, args ...string) string {
	t.Helper()
	out, err := p.try(user, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPlugin(t *testing.T) {
	ctx, c, a := startAPI(t)
	h := newHelm(ctx, t, c.config)
	namespace(ctx, t, a, operatorHome)
	h.run(t, "install", "keepstone-operator", operatorChart, "--namespace", operatorHome)
	eventually(ctx, t, "serve clusters", func() error {
		_, err := a.call(ctx, "GET", clusters.collection(operatorNamespace), nil, "", nil)
		return err
	})
	p := newPlugin(ctx, t, c, a)
	p.allow()
	if out := p.run(t, reader, "status"); out != "there is no EtcdCluster\n" {
		t.Errorf("of no cluster it says %q", out)
	}
	p.populate()

	t.Run("status", p.checkStatus)
	t.Run("members", p.checkMembers)
	t.Run("orders", p.checkOrders)
	t.Run("backup", p.checkBackup)
	t.Run("rights", p.checkRights)
	t.Run("wait", p.checkWait)
	t.Run("report", p.checkReport)
}

// allow gives the two users what the roles view and edit are made of; no controller is there to put them together.
func (p *plugin) allow() {
	roles := map[string][]string{
		reader: {"system:aggregate-to-view", operatorHome + "-keepstone-operator-view"},
		editor: {
			"system:aggregate-to-view", "system:aggregate-to-edit",
			operatorHome + "-keepstone-operator-view", operatorHome + "-keepstone-operator-edit",
		},
	}
	for user, names := range roles {
		for i, name := range names {
			p.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", tree{
				"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
				"metadata": tree{"name": fmt.Sprintf("%s-%d", user, i)},
				"roleRef":  tree{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
				"subjects": []tree{{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}},
			})
		}
	}
}

func (p *plugin) post(path string, o tree) {
	p.t.Helper()
	if _, err := p.a.call(p.ctx, "POST", path, nil, "application/json", marshal(p.t, o)); err != nil {
		p.t.Fatal(err)
	}
}

// lost is what the operator says when most volumes are gone.
const lost = "most volumes are lost. To go on with what main-0 has: kubectl keepstone recover-quorum main --survivor main-0"

// populate makes a cluster as operator, controllers and kubelets would.
func (p *plugin) populate() {
	labels := tree{"keepstone.io/cluster": "main", "app.kubernetes.io/component": "member"}
	meta := func(name string) tree { return tree{"name": name, "labels": labels} }
	create(p.ctx, p.t, p.a, clusters, tree{
		"apiVersion": clusters.apiVersion, "kind": clusters.name, "metadata": tree{"name": "main"},
		"spec": tree{"version": "v0.1.0", "backup": tree{
			"full": tree{"schedule": "@daily"}, "store": tree{"pvc": tree{"claimName": "backups"}},
		}},
		"status": tree{
			"observedGeneration": 1, "phase": "Unavailable", "clusterID": "cdf8", "memberCount": 3,
			"members": []tree{{"name": "main-0", "id": "a0", "isHealthy": true, "isLeader": false, "isLearner": false}},
			"conditions": []tree{{
				"type": "Available", "status": "False", "reason": "QuorumLost", "message": lost,
				"lastTransitionTime": "2026-11-21T10:00:00Z",
			}},
		},
	})
	p.post(core+"serviceaccounts", tree{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": tree{"name": "default"}})
	p.post(core+"persistentvolumeclaims", tree{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta("data-main-0"),
		"spec": tree{
			"accessModes": []string{"ReadWriteOnce"}, "resources": tree{"requests": tree{"storage": "10Gi"}},
		},
	})
	p.post(core+"secrets", tree{
		"apiVersion": "v1", "kind": "Secret", "metadata": meta("main-server-tls"),
		"stringData": tree{"tls.key": hush},
	})
	variable := tree{"name": "S3_SECRET", "value": hush}
	p.post(core+"pods", tree{
		"apiVersion": "v1", "kind": "Pod", "metadata": meta("main-0"),
		"spec": tree{"containers": []tree{{"name": "keepstone", "image": "none", "env": []tree{variable}}}},
	})
	status := marshal(p.t, tree{"status": tree{
		"phase": "Running", "containerStatuses": []tree{{
			"name": "keepstone", "image": "none", "imageID": "", "ready": false, "restartCount": 3,
			"state": tree{"waiting": tree{"reason": "CrashLoopBackOff", "message": "back-off"}},
		}},
	}})
	if _, err := p.a.call(p.ctx, "PATCH", core+"pods/main-0/status", nil, mergePatch, status); err != nil {
		p.t.Fatal(err)
	}
}

// happen writes an event, which this API server keeps for seconds.
func (p *plugin) happen(name string) {
	p.t.Helper()
	p.post(core+"events", tree{
		"apiVersion": "v1", "kind": "Event", "metadata": tree{"name": name}, "type": "Warning", "reason": "ActFailed",
		"message": "somebody said no", "lastTimestamp": "2026-11-21T10:00:00Z",
		"involvedObject": tree{
			"apiVersion": clusters.apiVersion, "kind": clusters.name, "name": "main", "namespace": operatorNamespace,
		},
	})
}

func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q in\n%s", part, text)
		}
	}
}

// checkStatus sees the picture, with or without the cluster's name and by either name of the program.
func (p *plugin) checkStatus(t *testing.T) {
	p.happen("main.1")
	for _, args := range [][]string{{"status"}, {"status", "main", "-n", "default"}, {"--context", "test", "status", "main"}} {
		wantAll(t, p.run(t, reader, args...), "default/main: Unavailable", "cdf8", lost, "main-0", "CrashLoopBackOff", "10Gi",
			"Operator   not known", "somebody said no", "member main-0 itself")
	}
	other := &plugin{p.ctx, p.t, p.a, os.Getenv("KEEPSTONE_OPERATOR_BIN"), p.conf}
	wantAll(t, other.run(t, reader, "kubectl", "status", "main"), "default/main: Unavailable")
	var picture struct {
		Cluster tree
		Members []struct{ Name, Role, Health string }
		Pods    []tree
	}
	if err := json.Unmarshal([]byte(p.run(t, reader, "status", "main", "-o", "json")), &picture); err != nil {
		t.Fatal(err)
	}
	if nameOf(picture.Cluster) != "main" || len(picture.Pods) != 1 || picture.Members[0].Health != "Healthy" {
		t.Errorf("the picture is %+v", picture)
	}
	_, err := p.try(reader, "status", "nobody")
	if err == nil || !strings.Contains(err.Error(), "there is no EtcdCluster default/nobody") {
		t.Errorf("of a cluster that is not there: %v", err)
	}
	if _, err := p.try(reader, "status", "--context", "none"); err == nil {
		t.Error("a context that is not there was found")
	}
}

func (p *plugin) checkMembers(t *testing.T) {
	wantAll(t, p.run(t, reader, "members"), "NAME", "main-0", "voter", "yes*", "CrashLoopBackOff", "! main-0: back-off")
	var members []tree
	if err := yaml.Unmarshal([]byte(p.run(t, reader, "members", "main", "-o", "yaml")), &members); err != nil {
		t.Fatal(err)
	}
	if len(members) != 1 || members[0]["id"] != "a0" || at(members[0], "pod", "restarts") != 3.0 {
		t.Errorf("members are %v", members)
	}
}

// made is the one order that there is, and takes it away.
func (p *plugin) made(t *testing.T, k *kind) tree {
	t.Helper()
	all, err := p.a.object(p.ctx, k.collection(operatorNamespace))
	if err != nil {
		t.Fatal(err)
	}
	items, _ := all["items"].([]any)
	if len(items) != 1 {
		t.Fatalf("there are %d", len(items))
	}
	o := items[0].(tree)
	if _, err := p.a.call(p.ctx, "DELETE", k.collection(operatorNamespace)+"/"+nameOf(o), nil, "", nil); err != nil {
		t.Fatal(err)
	}
	return o
}

// checkOrders gives each, and wants the API server to have taken what was meant. The first is the one that the
// condition has, word for word.
func (p *plugin) checkOrders(t *testing.T) {
	_, printed, _ := strings.Cut(lost, "kubectl keepstone ")
	source := tree{"backupRef": tree{"name": "b"}}
	restore := tree{
		"from": source, "confirm": "main/cdf8", "bumpRevision": 1e9, "markCompacted": true, "snapshotCurrentFirst": true,
	}
	for _, order := range []struct {
		line, verb string
		want       tree
	}{
		{printed, "recoverQuorum", tree{"survivor": "main-0", "confirm": "main/cdf8"}},
		{"defrag main", "defragment", tree{}},
		{"defrag main main-0", "defragment", tree{"members": []any{"main-0"}}},
		{"compact main --revision 7", "compact", tree{"revision": 7.0}},
		{"compact main --keep-revisions 100", "compact", tree{"keep": tree{"revisions": 100.0}}},
		{"compact main --keep-duration 1h", "compact", tree{"keep": tree{"duration": "1h"}}},
		{"move-leader main", "moveLeader", tree{}},
		{"move-leader main --to main-1", "moveLeader", tree{"to": "main-1"}},
		{"replace-member main main-1", "replaceMember", tree{"member": "main-1"}},
		{"restart main", "restartMembers", tree{}},
		{"disarm-alarm main NOSPACE", "disarmAlarm", tree{"alarm": "NOSPACE"}},
		{"restore main --backup b --confirm main/cdf8", "restore", restore},
	} {
		t.Run(order.line, func(t *testing.T) {
			args := strings.Fields(order.line)
			wantAll(t, p.run(t, editor, append(args, "--dry-run")...), "kind: EtcdOperation", order.verb)
			out := p.run(t, editor, args...)
			o := p.made(t, operations)
			wantAll(t, out, "etcdoperation.keepstone.io/"+nameOf(o)+" created")
			if got := at(o, "spec", order.verb); !reflect.DeepEqual(got, any(order.want)) {
				t.Errorf("it is %v", got)
			}
			if at(o, "spec", "clusterRef", "name") != "main" {
				t.Errorf("it is for %v", at(o, "spec", "clusterRef"))
			}
		})
	}
}

func (p *plugin) checkBackup(t *testing.T) {
	p.run(t, editor, "backup", "main", "--keep", "--name", "first")
	o := p.made(t, backups)
	if nameOf(o) != "first" || at(o, "spec", "store", "pvc", "claimName") != "backups" ||
		at(o, "metadata", "annotations", "keepstone.io/keep") != "true" {
		t.Errorf("the backup is %v", o)
	}
	p.run(t, editor, "backup", "main", "--bucket", "etcd", "--endpoint", "http://s3:9000", "--path-style", "--credentials", "s3")
	o = p.made(t, backups)
	if s3, _ := at(o, "spec", "store", "s3").(tree); s3["bucket"] != "etcd" || s3["forcePathStyle"] != true {
		t.Errorf("the backup is %v", o)
	}
}

// checkRights sees that it has its user's rights and says what it lacks.
func (p *plugin) checkRights(t *testing.T) {
	_, err := p.try(reader, "defrag", "main")
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a reader gave an order: %v", err)
	}
	_, err = p.try(reader, "status", "-A")
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a reader of one namespace saw all: %v", err)
	}
}

// checkWait plays the operator, and wants the end to be told.
func (p *plugin) checkWait(t *testing.T) {
	for phase, want := range map[string]string{"Succeeded": "main-0  yes   8 MiB", "Failed": "Failed, StepFailed: no room"} {
		t.Run(phase, func(t *testing.T) {
			type end struct {
				out string
				err error
			}
			ended := make(chan end, 1)
			go func() {
				out, err := p.try(editor, "defrag", "main", "--wait", "--timeout", "2m")
				ended <- end{out, err}
			}()
			var name string
			eventually(p.ctx, t, "order", func() error {
				all, err := p.a.object(p.ctx, operations.collection(operatorNamespace))
				if err != nil {
					return err
				}
				items, _ := all["items"].([]any)
				if len(items) != 1 {
					return errors.New("it is not there")
				}
				name = nameOf(items[0].(tree))
				return nil
			})
			for _, phase := range []string{"Running", phase} {
				status := tree{
					"phase": phase, "verb": "defragment",
					"members": []tree{{"name": "main-0", "done": phase == "Succeeded", "bytesBefore": 8 << 20, "bytesAfter": 2 << 20}},
				}
				if phase == "Failed" {
					status["conditions"] = []tree{{
						"type": "Completed", "status": "False", "reason": "StepFailed", "message": "no room",
						"lastTransitionTime": "2026-11-21T10:00:00Z",
					}}
				}
				if err := setStatus(p.ctx, t, p.a, operations, name, status); err != nil {
					t.Fatal(err)
				}
			}
			got := <-ended
			if (got.err == nil) != (phase == "Succeeded") {
				t.Errorf("it ended with %v", got.err)
			}
			wantAll(t, got.out, name, want)
			p.made(t, operations)
		})
	}
	_, err := p.try(editor, "move-leader", "main", "--wait", "--timeout", "1s")
	if err == nil || !strings.Contains(err.Error(), "the operator has not taken it up") {
		t.Errorf("nobody carried it out, and it says %v", err)
	}
	p.made(t, operations)
}

// checkReport reads the bundle, and looks for secrets in it.
func (p *plugin) checkReport(t *testing.T) {
	p.happen("main.2")
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	if out := p.run(t, editor, "report", "main", "--file", file); out != file+"\n" {
		t.Errorf("it says %q", out)
	}
	files := unpack(t, file)
	for name, parts := range map[string][]string{
		"status.txt":                    {"default/main: Unavailable"},
		"report.txt":                    {"made 20", "not here: the operator", "not here: /metrics of main-0"},
		"events.yaml":                   {"somebody said no"},
		"objects/etcdcluster/main.yaml": {"clusterID: cdf8"},
		"objects/pod/main-0.yaml":       {"CrashLoopBackOff", "S3_SECRET"},
		"objects/persistentvolumeclaim/data-main-0.yaml": {"10Gi"},
		"objects/secret/main-server-tls.yaml":            {"tls.key: '(left out: "},
	} {
		wantAll(t, files[name], parts...)
	}
	// A pod that has no node has a log without a line.
	for _, name := range []string{"log", "previous.log"} {
		if _, ok := files["logs/default/main-0/keepstone."+name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	for name, text := range files {
		if strings.Contains(text, hush) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(hush))) {
			t.Errorf("%s tells a secret", name)
		}
	}
	if _, err := p.try(editor, "report", "main", "--file", file); err == nil {
		t.Error("it wrote over a file")
	}
	if out := p.run(t, reader, "report"); !strings.HasPrefix(out, "keepstone-report-default-main-") {
		t.Errorf("it says %q", out)
	}
}

// unpack is the files of a bundle, without the directory that they are all in.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for entries := tar.NewReader(zipped); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(entry.Name, "/")
		files[name] = string(text)
	}
}
