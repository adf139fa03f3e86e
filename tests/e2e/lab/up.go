package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// upWithin bounds a start. It takes half a minute on a machine with nothing else to do.
const upWithin = 5 * time.Minute

// up starts a lab and returns when it is ready. The first process of the control plane stays behind.
func up(dir string) error {
	s, err := newSettings(dir)
	if err != nil {
		return err
	}
	if err := down(s.Dir); err != nil {
		return fmt.Errorf("remove what an earlier one left: %w", err)
	}
	if err := install(); err != nil {
		return err
	}
	for _, sub := range []string{"logs", "pki", "volumes", "volumes-shared"} {
		if err := os.MkdirAll(s.in(sub), 0o755); err != nil {
			return err
		}
	}
	if err := s.write(); err != nil {
		return err
	}
	err = launch(s)
	if err == nil {
		err = follow(s)
	}
	if err != nil {
		err = errors.Join(err, tails(s))
	}
	return err
}

// launch starts the control plane's first process in namespaces of its own, with two ports of this network.
func launch(s *settings) error {
	api, apiFile, err := listen()
	if err != nil {
		return err
	}
	defer apiFile.Close()
	commands, commandFile, err := listen()
	if err != nil {
		return err
	}
	defer commandFile.Close()
	s.API, s.Commands = api, commands
	if err := writePKI(s); err != nil {
		return err
	}
	out, err := os.Create(s.log("control"))
	if err != nil {
		return err
	}
	defer out.Close()
	c := exec.Command("/proc/self/exe", asControl, s.Dir)
	c.Stdout, c.Stderr = out, out
	c.ExtraFiles = []*os.File{apiFile, commandFile}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces}
	// It is told how it was started by a file, and that only after it has been written down where to find it.
	hold, release, err := os.Pipe()
	if err != nil {
		return err
	}
	defer release.Close()
	c.Stdin = hold
	if err := c.Start(); err != nil {
		return err
	}
	hold.Close()
	s.PID = c.Process.Pid
	if s.Started, err = startTime(s.PID); err != nil {
		return err
	}
	if err := s.write(); err != nil {
		return errors.Join(err, c.Process.Kill())
	}
	_, err = release.WriteString("go\n")
	return err
}

// namespaces are those that the control plane has for itself, and each node again.
const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

func listen() (int, *os.File, error) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, nil, err
	}
	defer listener.Close()
	file, err := listener.File()
	return listener.Addr().(*net.TCPAddr).Port, file, err
}

// startTime is field 22 of /proc/PID/stat. The name before it is in brackets, and may hold anything.
func startTime(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat is short", pid)
	}
	if fields[0] == "Z" {
		return "", fs.ErrNotExist
	}
	return fields[19], nil
}

func (s *settings) running() bool {
	started, err := startTime(s.PID)
	return s.PID != 0 && err == nil && started == s.Started
}

// follow shows what the control plane says until it is ready.
func follow(s *settings) error {
	log, err := os.Open(s.log("control"))
	if err != nil {
		return err
	}
	defer log.Close()
	for deadline := time.Now().Add(upWithin); ; time.Sleep(50 * time.Millisecond) {
		alive := s.running()
		if _, err := io.Copy(os.Stdout, log); err != nil {
			return err
		}
		if !alive {
			return errors.New("the control plane ended")
		}
		if _, err := os.Stat(s.in("ready")); err == nil {
			_, err := io.Copy(os.Stdout, log)
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready within %v", upWithin)
		}
	}
}

// tails are the ends of all logs, for a start that failed.
func tails(s *settings) error {
	const bytes = 1500
	logs, err := filepath.Glob(s.log("*"))
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, log := range logs {
		end, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "\n--- %s\n%s", log, end[max(0, len(end)-bytes):])
	}
	return errors.New(text.String())
}

// down ends whatever lab was started in the directory, and removes the directory.
func down(dir string) error {
	s, err := readSettings(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.running() {
		// With it goes everything in its namespaces, nodes and pods too, and it is gone only when they are.
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			return err
		}
		for deadline := time.Now().Add(time.Minute); s.running(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d does not end", s.PID)
			}
		}
	}
	for _, p := range places() {
		if err := removeCgroup(s.cgroup(p.name)); err != nil {
			return err
		}
	}
	return os.RemoveAll(s.Dir)
}

// command has the control plane do something.
func command(dir, verb, argument string) error {
	s, err := readSettings(dir)
	if err != nil {
		return err
	}
	if verb == "load" {
		if argument, err = filepath.Abs(argument); err != nil {
			return err
		}
	}
	client := http.Client{Timeout: 2 * time.Minute}
	path := "http://127.0.0.1:" + strconv.Itoa(s.Commands) + "/" + verb
	answer, err := client.Post(path, "text/plain", strings.NewReader(argument))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", verb, argument, strings.TrimSpace(string(said)))
	}
	return err
}
