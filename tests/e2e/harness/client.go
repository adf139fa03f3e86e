package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"keepstone.io/e2e/history"
)

// A Client is an application in the cluster: it writes, reads and watches through a cluster's Service.
type Client struct {
	w    *World
	name string
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
	w.Apply(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  %[3]s
  # It has to outlive what is done to nodes.
  tolerations: [{operator: Exists}]
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: client
      image: keepstone-e2e/client:v1
      args: [--endpoint=https://%[2]s-client.%[4]s.svc:2379, --tls=/tls, --prefix=/e2e/%[5]d/]
      readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
      volumeMounts: [{name: tls, mountPath: /tls, readOnly: true}]
  volumes: [{name: tls, secret: {secretName: %[2]s-client-tls}}]
`, c.name, cluster, where, w.Namespace, time.Now().UnixNano())
	w.AwaitPod(c.name, Ready)
	w.Say("the client writes, reads and watches")
	return c
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
	for _, text := range s.Errors {
		c.w.T.Logf("          it was told: %s", text)
	}
	c.w.deletePod(c.name)
	return s
}
