package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A family is the children of a first process. Such a process inherits every orphan in its namespace and has to collect
// them all, so it can't wait for its own ones by the usual means.
type family struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

// A child is a process that was started here.
type child struct {
	pid  int
	done chan syscall.WaitStatus // gets its status, once
}

func newFamily() *family {
	f := &family{waiting: map[int]chan syscall.WaitStatus{}}
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, syscall.SIGCHLD)
	go func() {
		for range deaths {
			f.collect()
		}
	}()
	return f
}

func (f *family) collect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done, ours := f.waiting[pid]; ours {
			delete(f.waiting, pid)
			done <- status
		}
	}
}

// start takes commands whose streams are files, if they have any.
func (f *family) start(c *exec.Cmd) (*child, error) {
	f.mu.Lock() // so that nobody collects it before it is known
	defer f.mu.Unlock()
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	done := make(chan syscall.WaitStatus, 1)
	f.waiting[c.Process.Pid] = done
	child := &child{c.Process.Pid, done}
	_ = c.Process.Release()
	return child, nil
}

// run starts a program, feeds it, and waits until it has succeeded.
func (f *family) run(input string, program string, args ...string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = w, w
	if input != "" {
		in, feed, err := os.Pipe()
		if err != nil {
			return err
		}
		defer in.Close()
		c.Stdin = in
		go func() {
			defer feed.Close()
			_, _ = io.WriteString(feed, input)
		}()
	}
	child, err := f.start(c)
	w.Close()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	_, _ = io.Copy(&said, r)
	if status := <-child.done; !status.Exited() || status.ExitStatus() != 0 {
		return fmt.Errorf("%s %s: status %d: %s", program, strings.Join(args, " "), status, strings.TrimSpace(said.String()))
	}
	return nil
}

// words runs a program that is written as one line.
func (f *family) words(format string, args ...any) error {
	words := strings.Fields(fmt.Sprintf(format, args...))
	return f.run("", words[0], words[1:]...)
}

// A part is a program that runs for as long as the lab does: one that ends is started again, as an init system does.
type part struct {
	f       *family
	name    string
	log     string
	command []string

	mu  sync.Mutex
	pid int
}

const restartPause = 500 * time.Millisecond

// keep starts a program and starts it again whenever it ends.
func (f *family) keep(name, log string, command ...string) (*part, error) {
	p := &part{f: f, name: name, log: log, command: command}
	first, err := p.start()
	if err != nil {
		return nil, err
	}
	go func() {
		for child := first; ; {
			status := <-child.done
			fmt.Printf("%s ended with status %d; starting it again\n", name, status)
			for {
				time.Sleep(restartPause)
				if child, err = p.start(); err == nil {
					break
				}
				fmt.Println(err)
			}
		}
	}()
	return p, nil
}

func (p *part) start() (*child, error) {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c := exec.Command(p.command[0], p.command[1:]...)
	c.Stdout, c.Stderr = out, out
	child, err := p.f.start(c)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = child.pid
	return child, nil
}

// kill has it started anew.
func (p *part) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return syscall.Kill(p.pid, syscall.SIGKILL)
}
