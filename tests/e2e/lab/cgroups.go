package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Each node's pods are counted below a cgroup of the node's own, in every hierarchy there is. They are the one thing of
// the lab that outlives its processes, so they have names that down can find.

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies are the directories of cgroup v1's controllers.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return nil, errors.New("this machine has cgroup v2 alone, which the lab does not do; use kind")
	}
	entries, err := os.ReadDir(cgroupRoot)
	var found []string
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "unified" {
			found = append(found, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	return found, err
}

func makeCgroup(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range all {
		dir := filepath.Join(hierarchy, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// A new cpuset has no processors, and nothing can run in it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			text, err := os.ReadFile(filepath.Join(hierarchy, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(strings.TrimSpace(string(text))), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroup removes it with all below, whose processes have been killed: a moment later they are gone.
func removeCgroup(name string) error {
	all, err := filepath.Glob(filepath.Join(cgroupRoot, "*", name))
	if err != nil {
		return err
	}
	for _, top := range all {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs) // the deepest first
		for _, dir := range dirs {
			if err := removeSoon(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeSoon(dir string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
}
