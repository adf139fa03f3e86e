package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// plan is the list file: lines `run PATTERN` and `omit PATTERN REASON`, where a pattern is one of go test's -run.
type plan struct {
	run     []string
	omitted []string
}

func readPlan(path string) (*plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	for number, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case fields[0] == "run" && len(fields) == 2:
			p.run = append(p.run, anchored(fields[1]))
		case fields[0] == "omit" && len(fields) > 2:
			p.omitted = append(p.omitted, anchored(fields[1]))
		default:
			return nil, fmt.Errorf("%s:%d: neither `run PATTERN` nor `omit PATTERN REASON`", path, number+1)
		}
	}
	return p, nil
}

// anchored makes every element match a whole name: TestStatus is not TestStatusWithNoAuth.
func anchored(pattern string) string {
	elements := strings.Split(pattern, "/")
	for i, element := range elements {
		elements[i] = "^" + element + "$"
	}
	return strings.Join(elements, "/")
}

// covers checks that each test the suite has is either run or left out with a reason, and that no line names a test
// it does not have.
func (p *plan) covers(s *suite) error {
	list := exec.Command(s.binary, "-test.list=.")
	list.Dir = s.cwd
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("listing the suite's tests: %w", err)
	}
	known := map[string]bool{}
	for _, name := range strings.Fields(string(out)) {
		if strings.HasPrefix(name, "Test") {
			known[name] = false
		}
	}
	for _, pattern := range append(append([]string{}, p.run...), p.omitted...) {
		top, _, _ := strings.Cut(pattern, "/")
		name := strings.Trim(top, "^$")
		if _, exists := known[name]; !exists {
			return fmt.Errorf("the list names %s, which the suite does not have", name)
		}
		known[name] = true
	}
	for name, listed := range known {
		if !listed {
			return fmt.Errorf("the suite has %s, which the list neither runs nor leaves out", name)
		}
	}
	return nil
}
