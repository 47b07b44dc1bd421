package loadshed

import "syscall"

// FileLimit returns how many file descriptors the process may have. Go's runtime raises the soft
// limit to the hard limit.
func FileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 30 // the system has no limit
	}
	return int(min(uint64(limit.Cur), 1<<30)) //nolint:unconvert // Cur is not unsigned on every system
}
