//go:build tools

// Package tools keeps the pinned command in go.mod.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
