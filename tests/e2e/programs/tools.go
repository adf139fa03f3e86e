//go:build tools

// Package programs keeps what build.sh builds as it is in go.mod.
package programs

import (
	_ "github.com/rancher/local-path-provisioner"
	_ "helm.sh/helm/v3/cmd/helm"
)
