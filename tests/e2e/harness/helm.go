package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Where the operator is installed, and as what.
const (
	OperatorNamespace = "keepstone-system"
	OperatorName      = "keepstone-operator"
)

// Helm is the real one.
type Helm struct{ w *World }

// Chart is the path of one of ours.
func Chart(name string) string { return filepath.Join(os.Getenv("E2E_CHARTS"), name) }

// Run must succeed.
func (h *Helm) Run(args ...string) string {
	h.w.T.Helper()
	out, err := h.Try(args...)
	h.w.must(err)
	return out
}

// Try returns what helm says against it.
func (h *Helm) Try(args ...string) (string, error) {
	c := exec.CommandContext(h.w.Ctx, os.Getenv("E2E_HELM"), args...)
	c.Env = append(os.Environ(), "HOME="+h.w.T.TempDir())
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// InstallOperator sees to it that the operator runs as the chart has it by default, but for values that are set.
func (w *World) InstallOperator(set ...string) {
	w.T.Helper()
	w.MakeNamespace(OperatorNamespace)
	args := []string{"upgrade", "--install", "--reset-values", "--wait", "--timeout", "3m", "--namespace", OperatorNamespace, OperatorName, Chart("keepstone-operator")}
	for _, value := range set {
		args = append(args, "--set", value)
	}
	w.Helm.Run(args...)
	w.Say("the operator is installed")
}
