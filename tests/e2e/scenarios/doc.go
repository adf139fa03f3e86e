// Package scenarios is what the operator is for, on a real Kubernetes.
package scenarios
