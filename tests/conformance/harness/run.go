package harness

import (
	"os/exec"
	"testing"
)

// Run runs a program to its end and returns all it prints; a failing program fails the test.
func Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}
