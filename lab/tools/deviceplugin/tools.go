//go:build tools

// Package tools keeps the pinned commands in go.mod.
package tools

import (
	_ "github.com/NVIDIA/k8s-device-plugin/api/config/v1"
	_ "github.com/NVIDIA/k8s-device-plugin/cmd/gpu-feature-discovery"
	_ "github.com/NVIDIA/k8s-device-plugin/cmd/nvidia-device-plugin"
	_ "github.com/urfave/cli/v2"
	_ "google.golang.org/grpc"
	_ "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)
