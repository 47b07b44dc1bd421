// Package machine describes the machine of a benchmark.
package machine

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Machine describes the machine of the results without naming it.
type Machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Memory    int64  `json:"memory_bytes"`
	System    string `json:"system"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
}

// This returns the machine of this process. A value that Linux does not tell is "unknown" or 0.
func This() Machine {
	m := Machine{Processor: "unknown", Cores: runtime.NumCPU(), System: "unknown", Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.Processor = after(string(text), "model name", ":", m.Processor)
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		m.System = strings.Trim(after(string(text), "PRETTY_NAME", "=", m.System), `"`)
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _, _ := strings.Cut(after(string(text), "MemTotal", ":", "0"), " ")
		n, _ := strconv.ParseInt(kib, 10, 64)
		m.Memory = n << 10
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		release, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-") // the rest may name a host
		m.Kernel = release
	}
	return m
}

// AllowFiles raises the limit of open files of this process and its children to the hard limit.
func AllowFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// after returns the value of the first line of text with this key, or otherwise when no line has it.
func after(text, key, separator, otherwise string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, separator); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return otherwise
}
