package store

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
)

// errDamaged is of a file, or a record in it, that cannot be what was written. It
// stands in for errors that might quote a record.
var errDamaged = errors.New("the file is damaged")

// guarded returns what f does. Where the file is damaged bbolt panics, and where it was
// cut a read beyond its end, which is a read of memory, would end the process: both
// become errors.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if damage := recover(); damage != nil {
			err = fmt.Errorf("%w: %v", errDamaged, damage)
		}
	}()
	return f()
}

// release lets go of a file that bbolt, after a panic, does not. The lock would outlive
// the descriptor, because the file is still mapped.
func release(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}
