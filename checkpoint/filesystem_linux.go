package checkpoint

import (
	"fmt"
	"math/bits"
	"os"
	"syscall"
)

// Free implements fileSystem.
func (realFiles) Free(path string) (bytes uint64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil || s.Bsize <= 0 {
		return 0, false
	}
	overflow, n := bits.Mul64(s.Bavail, uint64(s.Bsize))
	if overflow > 0 {
		n = 1<<64 - 1
	}
	return n, true
}

// isMemory reports whether path is on a file system in memory.
func isMemory(path string) bool {
	const tmpfsMagic, ramfsMagic = 0x01021994, 0x858458f6
	var s syscall.Statfs_t
	err := syscall.Statfs(path, &s)
	return err == nil && (uint32(s.Type) == tmpfsMagic || uint32(s.Type) == ramfsMagic)
}

// lock takes a folder for this process until the file is closed or the process ends,
// however it ends.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is held by another process: %w", path, err)
	}
	return f, nil
}

// ownedByMe reports whether path is a folder, not a link, that belongs to this user
// and that nobody else can write to.
func ownedByMe(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Getuid()
}
