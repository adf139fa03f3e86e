package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"keepstone.io/e2e/history"
)

// A Client is an application in the cluster: it writes, reads and watches through a cluster's Service.
type Client struct {
	w    *World
	name string

	// History is what it was told in all; there is one once it has been stopped.
	History *history.History
}

// podSpec is that of a client of a cluster with TLS, in a namespace where only restricted pods may run. Each takes its keys
// from its own name.
func podSpec(namespace, cluster, where string) string {
	return fmt.Sprintf(`automountServiceAccountToken: false
terminationGracePeriodSeconds: 1
%[3]s
# It has to outlive what is done to nodes.
tolerations: [{operator: Exists}]
securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
containers:
  - name: client
    image: keepstone-e2e/client:v1
    args: ["--endpoint=https://%[2]s-client.%[1]s.svc:2379", --tls=/tls, --prefix=/e2e/$(POD)/]
    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
    volumeMounts: [{name: tls, mountPath: /tls, readOnly: true}]
volumes: [{name: tls, secret: {secretName: %[2]s-client-tls}}]
`, namespace, cluster, where)
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
}

// StartClient starts one for a cluster with TLS, and waits until its first put is acknowledged. It runs on a node that is
// named, or on any.
func (w *World) StartClient(cluster string, node ...string) *Client {
	w.T.Helper()
	c := &Client{w: w, name: "client-" + cluster}
	where := ""
	if len(node) > 0 {
		where = "nodeSelector: {kubernetes.io/hostname: " + node[0] + "}"
	}
	w.AwaitGone(schema.GroupVersionResource{Version: "v1", Resource: "pods"}, c.name)
	w.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  restartPolicy: Never\n%s\n", c.name,
		indent(podSpec(w.Namespace, cluster, where), "  "))
	w.AwaitPod(c.name, Ready)
	w.Say("the client writes, reads and watches")
	return c
}

// StartDeployment starts several as the pods of a Deployment.
func (w *World) StartDeployment(cluster string, replicas int) []*Client {
	w.T.Helper()
	w.Apply(`apiVersion: apps/v1
kind: Deployment
metadata: {name: clients}
spec:
  replicas: %d
  selector: {matchLabels: {app: clients}}
  template:
    metadata: {labels: {app: clients}}
    spec:
%s
`, replicas, indent(podSpec(w.Namespace, cluster, ""), "      "))
	var clients []*Client
	w.Eventually("all clients write", func() error {
		clients = nil
		pods, err := w.Kube.CoreV1().Pods(w.Namespace).List(w.Ctx, meta.ListOptions{LabelSelector: "app=clients"})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if Ready(&pod) {
				clients = append(clients, &Client{w: w, name: pod.Name})
			}
		}
		if len(clients) != replicas {
			return fmt.Errorf("%d of %d", len(clients), replicas)
		}
		return nil
	})
	w.Say("%d clients write, read and watch", replicas)
	return clients
}

func (c *Client) request(verb, path string) *rest.Request {
	return c.w.Kube.CoreV1().RESTClient().Verb(verb).Namespace(c.w.Namespace).Resource("pods").Name(c.name + ":8080").SubResource("proxy").Suffix(path)
}

// Summary is what the client has seen up to now.
func (c *Client) Summary() history.Summary {
	c.w.T.Helper()
	var s history.Summary
	c.w.Eventually("the client's summary", func() error {
		text, err := c.request("GET", "summary").DoRaw(c.w.Ctx)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &s)
	})
	return s
}

// AwaitPuts waits until so many more puts are acknowledged.
func (c *Client) AwaitPuts(more int) {
	c.w.T.Helper()
	before := c.Summary().Puts
	c.w.Eventually("puts", func() error {
		if got := c.Summary().Puts; got < before+more {
			return fmt.Errorf("%d of %d", got-before, more)
		}
		return nil
	})
}

// Stop ends the client and judges its history: nothing acknowledged may be lost. It returns what it comes to.
func (c *Client) Stop() history.Summary {
	c.w.T.Helper()
	var h history.History
	c.w.Eventually("the client's last put is told of", func() error {
		text, err := c.request("POST", "stop").Timeout(time.Minute).DoRaw(c.w.Ctx)
		if err != nil {
			return errors.New(strings.TrimSpace(string(text)) + " " + err.Error())
		}
		return json.Unmarshal(text, &h)
	})
	problems := history.Check(&h)
	for i, problem := range problems {
		if i == 20 {
			c.w.T.Errorf("and %d more", len(problems)-i)
			break
		}
		c.w.T.Error(problem)
	}
	s := history.Summarize(&h)
	c.w.Say("client: %d puts acknowledged, %d unclear, %d gets, %d events; longest pause %.2f s, %.1f s after it began; lost: %d",
		s.Puts, s.Unclear, s.Gets, s.Events, s.LongestPause.Seconds(), s.PauseBegan.Seconds(), len(problems))
	for _, text := range s.Errors[:min(5, len(s.Errors))] {
		c.w.T.Logf("          it was told: %s", text)
	}
	c.w.deletePod(c.name)
	c.History = &h
	return s
}

// Keys is what is in the store now below a prefix.
func (c *Client) Keys(prefix string) map[string]history.Event {
	c.w.T.Helper()
	now := map[string]history.Event{}
	c.w.Eventually("the keys", func() error {
		text, err := c.request("GET", "keys").Param("prefix", prefix).DoRaw(c.w.Ctx)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &now)
	})
	return now
}

// MustHave fails the scenario where something is not there, or another, that a client that has ended wrote.
func (c *Client) MustHave(before *Client) {
	c.w.T.Helper()
	now := c.Keys("/e2e/")
	want, right := before.History.State(), 0
	for key, event := range want {
		if now[key] != event {
			c.w.T.Errorf("%s is %+v, and was %+v", key, now[key], event)
		} else {
			right++
		}
	}
	c.w.Say("%d of %d keys are as they were", right, len(want))
}
