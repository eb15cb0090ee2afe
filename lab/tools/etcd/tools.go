//go:build tools

// Package tools keeps the pinned commands in go.mod.
package tools

import _ "go.etcd.io/etcd/server/v3"
