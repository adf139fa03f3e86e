// Command client is what an application in the cluster is: it writes, reads and watches through the Service with the
// official Go client, and keeps a history of everything it was told.
//
//	GET  /summary   what it comes to up to now
//	POST /stop      end, wait until the watch has seen the last write, and answer the whole history
//	GET  /healthz   200 once a put was acknowledged
//	GET  /keys?prefix=…   what is in the store now, by key: the value and the revision of its last change
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keepstone.io/e2e/history"
)

type options struct {
	endpoint string
	tlsDir   string // empty: not encrypted
	prefix   string
	writers  int
	readers  int
	pace     time.Duration // between two calls of a client
	timeout  time.Duration // of a call
}

func main() {
	var o options
	flag.StringVar(&o.endpoint, "endpoint", "", "where the store is, such as https://demo-client:2379")
	flag.StringVar(&o.tlsDir, "tls", "", "a directory with ca.crt, tls.crt and tls.key, read anew for every connection")
	flag.StringVar(&o.prefix, "prefix", "", "of its keys, which nobody else writes")
	flag.IntVar(&o.writers, "writers", 4, "clients that put")
	flag.IntVar(&o.readers, "readers", 2, "clients that get")
	flag.DurationVar(&o.pace, "pace", 20*time.Millisecond, "between two calls of a client")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Second, "of a call")
	listen := flag.String("listen", ":8080", "where to be asked")
	flag.Parse()
	if o.endpoint == "" || o.prefix == "" {
		log.Fatal("--endpoint and --prefix are needed")
	}
	if err := serve(o, *listen); err != nil {
		log.Fatal(err)
	}
}

func serve(o options, listen string) error {
	r := newRecorder()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load, err := startLoad(ctx, o, r)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if r.summary().Puts == 0 {
			http.Error(w, "no put was acknowledged yet", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /summary", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.summary()) })
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, q *http.Request) {
		if err := load.stop(q.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		answer(w, r.copy())
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, q *http.Request) {
		ctx, cancel := context.WithTimeout(q.Context(), o.timeout)
		defer cancel()
		keys, err := load.last.Get(ctx, q.URL.Query().Get("prefix"), clientv3.WithPrefix())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		now := map[string]history.Event{}
		for _, kv := range keys.Kvs {
			now[string(kv.Key)] = history.Event{Revision: kv.ModRevision, Key: string(kv.Key), Value: string(kv.Value)}
		}
		answer(w, now)
	})
	return http.ListenAndServe(listen, mux)
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// dial makes a client with a connection of its own.
func dial(ctx context.Context, o options) (*clientv3.Client, error) {
	config := clientv3.Config{
		Endpoints: []string{o.endpoint},
		Context:   ctx,
		// A connection to a node that is gone is given up within two such times.
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		DialTimeout: 2 * time.Second,
		Logger:      quiet,
	}
	if o.tlsDir != "" {
		encrypted, err := tlsConfig(o)
		if err != nil {
			return nil, err
		}
		config.TLS = encrypted
	}
	return clientv3.New(config)
}

// put and get are calls with a record.
func put(ctx context.Context, o options, r *recorder, c *clientv3.Client, client int, key, value string) history.Call {
	call := history.Call{Client: client, Kind: history.Put, Key: key, Value: value, Began: r.now()}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	answer, err := c.Put(ctx, key, value)
	call.Ended = r.now()
	if err != nil {
		call.Error = err.Error()
	} else {
		call.Revision, call.Cluster = answer.Header.Revision, answer.Header.ClusterId
	}
	r.call(call)
	return call
}

func get(ctx context.Context, o options, r *recorder, c *clientv3.Client, client int, key string) history.Call {
	call := history.Call{Client: client, Kind: history.Get, Key: key, Began: r.now()}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	answer, err := c.Get(ctx, key)
	call.Ended = r.now()
	if err != nil {
		call.Error = err.Error()
	} else {
		call.Revision, call.Cluster = answer.Header.Revision, answer.Header.ClusterId
		for _, kv := range answer.Kvs {
			call.Value, call.Modified = string(kv.Value), kv.ModRevision
		}
	}
	r.call(call)
	return call
}
