// Command volume makes and removes a volume's directory on a node, for local-path-provisioner, which would run a shell
// otherwise.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	path := flag.String("p", "", "the volume's directory")
	action := flag.String("a", "", "create or delete")
	flag.String("s", "", "its size in bytes, which nothing enforces")
	flag.String("m", "", "Filesystem")
	flag.Parse()
	if err := act(*action, *path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func act(action, path string) error {
	switch action {
	case "create":
		if err := os.MkdirAll(path, 0o777); err != nil {
			return err
		}
		return os.Chmod(path, 0o777) // whatever the umask is: pods run as users of their own
	case "delete":
		return os.RemoveAll(path)
	default:
		return fmt.Errorf("no action %q", action)
	}
}
