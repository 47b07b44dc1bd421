// Package process reads the CPU time and the memory of a process and all its descendants from Linux.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every Linux (proc(5)).
const tick = 10 * time.Millisecond

// CPU returns the CPU time that root and its descendants have used since they started, in user and kernel
// mode. The time of live processes is exact to the nanosecond and includes ended threads; the time of
// children that have ended and were waited for is exact to a tick.
func CPU(root int) (time.Duration, error) {
	tree, err := Tree(root)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range tree {
		own, err := clock(pid)
		if gone(err) {
			continue // the parent's time includes its time, now or later
		} else if err != nil {
			return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
		}
		s, err := read(pid)
		if err != nil {
			continue
		}
		sum += own + s.children
	}
	return sum, nil
}

// clock returns the CPU time of the threads of one process from its CPU-time clock. The clock's id is
// computed as clock_getcpuclockid(3) does; 2 selects the scheduler's time.
func clock(pid int) (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|2), &t)
	return time.Duration(t.Nano()), err
}

// Memory returns the memory of root and its descendants in bytes. A page that several processes share is
// divided among them (PSS), so that forked workers do not count their parent's pages again.
func Memory(root int) (int64, error) {
	tree, err := Tree(root)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range tree {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if gone(err) {
			continue
		} else if err != nil {
			return 0, err
		}
		size, err := pss(text)
		if err != nil {
			return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
		}
		sum += size
	}
	return sum, nil
}

// pss returns the bytes in the line "Pss: 123 kB".
func pss(rollup []byte) (int64, error) {
	for line := range bytes.Lines(rollup) {
		fields := strings.Fields(string(line))
		if len(fields) == 3 && fields[0] == "Pss:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no line Pss")
}

// Tree returns root and its descendants. It is an error when root has ended.
func Tree(root int) ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	found := false
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if s, err := read(pid); err == nil {
			children[s.parent] = append(children[s.parent], pid)
			found = found || pid == root && !s.ended
		}
	}
	if !found {
		return nil, fmt.Errorf("process %d has ended", root)
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

// A status has the needed fields of /proc/PID/stat (proc(5)).
type status struct {
	ended    bool
	parent   int
	children time.Duration // cutime and cstime, of children that were waited for
}

func read(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	return parse(string(text))
}

// parse reads a line of /proc/PID/stat. The second field is the command in parentheses and may contain any
// character, so the other fields are counted from the last parenthesis.
func parse(stat string) (status, error) {
	bracket := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[bracket+1:]) // from the third on
	if bracket < 0 || len(fields) < 15 {
		return status{}, errors.New("not a line of /proc/PID/stat")
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return status{}, err
	}
	user, err := strconv.ParseInt(fields[13], 10, 64)
	if err != nil {
		return status{}, err
	}
	system, err := strconv.ParseInt(fields[14], 10, 64)
	if err != nil {
		return status{}, err
	}
	return status{ended: fields[0] == "Z" || fields[0] == "X", parent: parent, children: time.Duration(user+system) * tick}, nil
}

// gone reports whether err means that a process has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL)
}
