package loadshed

import "syscall"

// FileLimit returns how many files and sockets the process may have open. Go's runtime
// raises the limit as far as it may.
func FileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 30 // as if there were none
	}
	return int(min(uint64(limit.Cur), 1<<30)) //nolint:unconvert // not unsigned everywhere
}
