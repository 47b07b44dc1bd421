// Package process reads what a server costs: the processor time and the memory of a process
// and of all its descendants, as Linux counts them.
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

// tick is the unit of times in /proc/PID/stat, a hundredth of a second on every Linux
// (USER_HZ, proc(5)).
const tick = 10 * time.Millisecond

// CPU returns the processor time that the tree of processes under root has used since it
// began, in user and kernel mode: of those that live to the nanosecond, threads that ended
// included, and of children that ended and were waited for to a tick.
func CPU(root int) (time.Duration, error) {
	tree, err := Tree(root)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range tree {
		own, err := clock(pid)
		if gone(err) {
			continue // its parent has its time, or is about to
		} else if err != nil {
			return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
		}
		s, err := read(pid)
		if err != nil {
			continue
		}
		sum += own + s.children
	}
	return sum, nil
}

// clock returns the processor time of the threads of one process, by its processor-time clock
// (clock_getcpuclockid(3), whose arithmetic this is; 2 stands for time as the scheduler
// counts it).
func clock(pid int) (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|2), &t)
	return time.Duration(t.Nano()), err
}

// Memory returns the bytes of memory that belong to the tree of processes under root: pages
// that several processes share count for each by its part (PSS), so that workers forked from
// one process do not count its pages again.
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

// A status is what we need of /proc/PID/stat (proc(5)).
type status struct {
	ended    bool
	parent   int
	children time.Duration // cutime and cstime: of those that were waited for
}

func read(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	return parse(string(text))
}

// parse reads a line of /proc/PID/stat. Its second field is the command in brackets, in
// which anything may stand, so the others are counted from the last bracket.
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

// gone tells whether err says that a process has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL)
}
