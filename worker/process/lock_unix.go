//go:build unix

package process

import (
	"os"
	"syscall"
)

// tryLock takes the exclusive lock of an open file, which ends with the process.
func tryLock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
