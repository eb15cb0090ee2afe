//go:build tools

// Package tools keeps the pinned command in go.mod.
package tools

import _ "github.com/NVIDIA/mig-parted/cmd/nvidia-mig-parted"
