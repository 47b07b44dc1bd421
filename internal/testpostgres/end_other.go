//go:build !linux

package testpostgres

import "syscall"

// endWithTest does nothing, because only Linux can end a process with its parent.
func endWithTest(*syscall.SysProcAttr) {}
