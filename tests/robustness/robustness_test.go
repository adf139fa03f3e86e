// Package robustness runs etcd's own robustness tests, as they are, against a member that can be told to fail: clusters of
// one and of three under traffic, a fault at random, and every answer, every watch and the persisted requests checked by
// etcd's model. See docs/fail-points.md.
package robustness

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	suite = "go.etcd.io/etcd/tests/v3/robustness"
	// inside tells the copy of this program that it has a network of its own, and what to become.
	inside = "ROBUSTNESS_INSIDE"
	// scenarios leaves out the faults that wait until a member can only be helped by a snapshot. They count revisions, and
	// here a log entry holds many: the log may well be enough still. tests/conformance/cluster has those points. Blackholes
	// go with them: they take what comes in to a member, which in etcd has its streams too; here a leader dials, and leads on.
	scenarios = "^TestRobustnessExploratory$/././^([^SWb]|S[^n]|W[^A]|b[^l])*$"
)

func TestMain(m *testing.M) {
	if program := os.Getenv(inside); program != "" {
		if err := raiseLoopback(); err != nil {
			panic(err)
		}
		panic(syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ()))
	}
	os.Exit(m.Run())
}

// TestEtcdsRobustness runs each scenario ROBUSTNESS_COUNT times (default 1), each time with another fault.
func TestEtcdsRobustness(t *testing.T) {
	server, etcdctl := program(t, "KEEPSTONE_BIN", ""), program(t, "ETCD_TOOLS", "etcdctl")
	work := t.TempDir()
	binary := filepath.Join(work, "robustness.test")
	out, err := exec.Command("go", "test", "-c", "-o", binary, suite).CombinedOutput()
	require.NoError(t, err, string(out))
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", suite).Output()
	require.NoError(t, err)

	bins := filepath.Join(work, "bin")
	require.NoError(t, os.Mkdir(bins, 0o700))
	require.NoError(t, os.Symlink(etcdctl, filepath.Join(bins, "etcdctl")))
	// The suite gives its servers an environment of its own making.
	script := "#!/bin/sh\nKEEPSTONE_AUDIT_WAL=1 exec '" + server + "' \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(bins, "etcd"), []byte(script), 0o700))

	count := os.Getenv("ROBUSTNESS_COUNT")
	if count == "" {
		count = "1"
	}
	run := exec.Command("/proc/self/exe", "-test.v", "-test.count="+count, "-test.timeout=50m", "-test.run="+scenarios, "-bin-dir="+bins)
	run.Dir = strings.TrimSpace(string(dir))
	run.Env = append(os.Environ(), inside+"="+binary, "TMPDIR="+work, "RESULTS_DIR="+work)
	run.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		run.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		run.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		run.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	text, err := run.CombinedOutput()
	outcomes := regexp.MustCompile(`(?m)^        --- .*$`).FindAllString(string(text), -1)
	t.Log("\n" + strings.Join(outcomes, "\n"))
	if err != nil {
		// All of it is megabytes, and what went wrong is somewhere in the middle.
		kept := filepath.Join(os.TempDir(), "etcd-robustness.log")
		require.NoError(t, os.WriteFile(kept, text, 0o600))
		wrong := regexp.MustCompile(`(?s)(Error Trace:|ERROR).{0,1500}`).FindAllString(string(text), 20)
		t.Fatalf("%v; all of it is in %s\n%s", err, kept, strings.Join(wrong, "\n...\n"))
	}
	require.NotEmpty(t, outcomes)
}

func program(t *testing.T, variable, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(os.Getenv(variable), name))
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err, "%s has to name it", variable)
	require.NotZero(t, info.Mode()&0o111, "%s: %s is no program", variable, path)
	return path
}

func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback)
}
