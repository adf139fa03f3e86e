package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The cluster's addresses, which only it sees.
const (
	controlIP  = "172.30.0.1"
	nodePrefix = "172.30.0." // and 10 + the node's number
	podPrefix  = "10.244."   // and the node's number
	serviceNet = "10.96.0.0/16"
	apiserver  = "10.96.0.1"
	dnsService = "10.96.0.10"
)

// What this program is when it starts itself anew.
const (
	asControl = "control"
	asNode    = "node"
)

// zones are the nodes' names and where they are, as in kind-config.yaml.
var zones = []struct{ node, zone string }{{"node1", "a"}, {"node2", "b"}, {"node3", "c"}}

// settings are what a lab was started with. They lie in its directory, from before anything else is there.
type settings struct {
	Dir      string // all state; gone after down
	Programs string // where the programs are that build.sh makes, and their images
	Store    string // the keepstone that the cluster's state is in
	API      int    // the port of the machine's loopback that leads to the API server
	Commands int    // and the one where commands are taken
	PID      int    // of the control plane's first process
	Started  string // when it started, in the kernel's words: a PID alone may have become somebody else's
}

func (s *settings) in(path ...string) string {
	return filepath.Join(append([]string{s.Dir}, path...)...)
}
func (s *settings) program(name string) string   { return filepath.Join(s.Programs, name) }
func (s *settings) log(name string) string       { return s.in("logs", name+".log") }
func (s *settings) pki(name string) string       { return s.in("pki", name) }
func (s *settings) cgroup(node string) string    { return "/keepstone-lab-" + node }
func (s *settings) kubeconfig(who string) string { return s.in("pki", who+".kubeconfig") }

// images are the archives that every node has from the start.
func (s *settings) images() ([]string, error) {
	found, err := filepath.Glob(s.program("images/*.tar"))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no images in %s", s.program("images"))
	}
	return found, err
}

func (s *settings) write() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.in("lab.json"), text, 0o600)
}

func readSettings(dir string) (*settings, error) {
	text, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil {
		return nil, err
	}
	s := &settings{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("lab.json: %w", err)
	}
	return s, nil
}

// newSettings looks at the surroundings. KEEPSTONE_BIN names the store, E2E_PROGRAMS the directory that build.sh filled.
func newSettings(dir string) (*settings, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, hidden := range hiddenDirs {
		if dir == hidden || strings.HasPrefix(dir, hidden+"/") {
			return nil, fmt.Errorf("%s can't be below %s: the nodes have one of their own", dir, hidden)
		}
	}
	s := &settings{Dir: dir}
	for variable, to := range map[string]*string{"KEEPSTONE_BIN": &s.Store, "E2E_PROGRAMS": &s.Programs} {
		if *to = os.Getenv(variable); *to == "" {
			return nil, fmt.Errorf("%s is not set", variable)
		}
		if *to, err = filepath.Abs(*to); err != nil {
			return nil, err
		}
		if _, err := os.Stat(*to); err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
	}
	return s, nil
}

// A place is a node's number, addresses and zone.
type place struct {
	name, zone, ip, pods string
}

func places() []place {
	var all []place
	for i, z := range zones {
		all = append(all, place{z.node, z.zone, fmt.Sprint(nodePrefix, 11+i), fmt.Sprint(podPrefix, 1+i, ".0/24")})
	}
	return all
}

func placeOf(node string) (place, error) {
	all := places()
	i := slices.IndexFunc(all, func(p place) bool { return p.name == node })
	if i < 0 {
		return place{}, fmt.Errorf("no node %q", node)
	}
	return all[i], nil
}
