// Command common runs etcd's own tests/common suite, compiled by build-tools.sh, against a foreign server binary.
//
// Which tests run, and why others are left out, is written in tests.txt. Every line runs in a process, a network
// namespace and a pid namespace of its own: the suite's ports are fixed, and what one failing test leaves behind must
// not fail the next. It never changes the suite, and it fails when a test of the suite is not in the list at all.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == insideWord {
		fmt.Fprintln(os.Stderr, inside(os.Args[2:]))
		os.Exit(1)
	}
	here := sourceDir()
	root := filepath.Join(here, "..", "..", "..")
	server := flag.String("server", env("KEEPSTONE_BIN", filepath.Join(root, "target/debug/keepstone")), "binary to run as etcd")
	tools := flag.String("tools", env("ETCD_TOOLS", filepath.Join(root, "target/etcd-tools")), "directory filled by build-tools.sh")
	list := flag.String("list", filepath.Join(here, "tests.txt"), "which tests to run and which not")
	jobs := flag.Int("jobs", 2, "tests at once")
	only := flag.String("run", "", "run only the lines that match this expression")
	logs := flag.String("logs", "", "keep each test's output in this directory")
	flag.Parse()
	if err := run(*server, *tools, *list, *only, *logs, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "common:", err)
		os.Exit(1)
	}
}

// sourceDir is where this file is, whatever directory the program is started in.
func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

func env(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func run(server, tools, list, only, logs string, jobs int) error {
	plan, err := readPlan(list)
	if err != nil {
		return err
	}
	suite, err := newSuite(server, tools)
	if err != nil {
		return err
	}
	defer suite.remove()
	if err := plan.covers(suite); err != nil {
		return err
	}
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	var patterns []string
	for _, pattern := range plan.run {
		if wanted.MatchString(pattern) {
			patterns = append(patterns, pattern)
		}
	}
	results := suite.runAll(patterns, jobs, logs)
	var sum result
	for _, one := range results {
		sum.pass, sum.fail, sum.skip = sum.pass+one.pass, sum.fail+one.fail, sum.skip+one.skip
	}
	fmt.Printf("common: %d passed, %d failed, %d skipped, %d lines run, %d left out\n",
		sum.pass, sum.fail, sum.skip, len(patterns), len(plan.omitted))
	if sum.fail > 0 || len(patterns) == 0 {
		return errors.New("failed")
	}
	return nil
}

// result counts leaf tests: a test with sub-tests is not counted itself.
type result struct{ pass, fail, skip int }

type suite struct {
	binary string // the compiled suite
	cwd    string // it finds its fixtures relative to its package directory
	bins   string // etcd (the server under test), etcdctl, etcdutl
}

func newSuite(server, tools string) (*suite, error) {
	server, err := filepath.Abs(server)
	if err != nil {
		return nil, err
	}
	tools, err = filepath.Abs(tools)
	if err != nil {
		return nil, err
	}
	find := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "go.etcd.io/etcd/tests/v3")
	find.Dir = sourceDir()
	dir, err := find.Output()
	if err != nil {
		return nil, fmt.Errorf("finding etcd's tests: %w", err)
	}
	bins, err := os.MkdirTemp("", "common-bin-")
	if err != nil {
		return nil, err
	}
	s := &suite{
		binary: filepath.Join(tools, "common.test"),
		cwd:    filepath.Join(strings.TrimSpace(string(dir)), "common"),
		bins:   bins,
	}
	for name, target := range map[string]string{
		"etcd":    server,
		"etcdctl": filepath.Join(tools, "etcdctl"),
		"etcdutl": filepath.Join(tools, "etcdutl"),
	} {
		if _, err := os.Stat(target); err != nil {
			return nil, err
		}
		if err := os.Symlink(target, filepath.Join(bins, name)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *suite) remove() { _ = os.RemoveAll(s.bins) }

func (s *suite) runAll(patterns []string, jobs int, logs string) []result {
	results := make([]result, len(patterns))
	next := make(chan int)
	var workers sync.WaitGroup
	for range max(1, jobs) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for i := range next {
				results[i] = s.report(patterns[i], logs)
			}
		}()
	}
	for i := range patterns {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// report runs one line of the list and prints what became of it.
func (s *suite) report(pattern, logs string) result {
	began := time.Now()
	out, err := s.runOne(pattern)
	one := count(out)
	// A process that dies, or a pattern that matches nothing, is a failure of its own.
	if one.fail == 0 && (err != nil || one.pass+one.skip == 0) {
		one.fail++
	}
	word := "ok  "
	switch {
	case one.fail > 0:
		word = "FAIL"
	case one.pass == 0:
		word = "skip"
	}
	if logs != "" {
		name := strings.Map(func(r rune) rune {
			if strings.ContainsRune(`/^$()|`, r) {
				return '_'
			}
			return r
		}, pattern)
		if err := os.MkdirAll(logs, 0o755); err == nil {
			_ = os.WriteFile(filepath.Join(logs, name+".log"), out, 0o644)
		}
	}
	if one.fail > 0 {
		fmt.Printf("%s\n%v\n", tail(out, 200), err)
	}
	fmt.Printf("%s %s: %d passed, %d failed, %d skipped in %.1fs\n",
		word, pattern, one.pass, one.fail, one.skip, time.Since(began).Seconds())
	return one
}

var verdict = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+)`)

// count reads go test's verdicts; a parent of another verdict's test is no leaf.
func count(out []byte) result {
	verdicts := map[string]string{}
	for _, match := range verdict.FindAllStringSubmatch(string(out), -1) {
		verdicts[match[2]] = match[1]
	}
	var one result
	for name, word := range verdicts {
		leaf := true
		for other := range verdicts {
			leaf = leaf && !strings.HasPrefix(other, name+"/")
		}
		switch {
		case !leaf:
		case word == "PASS":
			one.pass++
		case word == "FAIL":
			one.fail++
		default:
			one.skip++
		}
	}
	return one
}

func tail(out []byte, lines int) string {
	all := strings.Split(string(out), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
