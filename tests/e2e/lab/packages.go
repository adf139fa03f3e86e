package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// packages are Debian's, by something that each brings.
var packages = map[string]string{
	"containerd":               "containerd",
	"ctr":                      "containerd",
	"runc":                     "runc",
	"iptables":                 "iptables",
	"ip":                       "iproute2",
	"nsenter":                  "util-linux",
	"mount":                    "mount",
	"conntrack":                "conntrack",
	cniPlugins + "/bridge":     "containernetworking-plugins",
	cniPlugins + "/host-local": "containernetworking-plugins",
}

const cniPlugins = "/usr/lib/cni"

// install gets what is missing, and is quiet about it.
func install() error {
	missing := map[string]bool{}
	for program, name := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing[name] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	args := []string{"install", "-y", "-qq", "--no-install-recommends"}
	for name := range missing {
		args = append(args, name)
	}
	fmt.Println("installing", strings.Join(args[4:], " "))
	for _, args := range [][]string{{"update", "-qq"}, args} {
		c := exec.Command("apt-get", args...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}
