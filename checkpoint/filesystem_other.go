//go:build !linux

package checkpoint

import "os"

// Free is unknown here; a full disk then shows in the write.
func (realFiles) Free(string) (bytes uint64, known bool) { return 0, false }

// isMemory is false, so that no tmpfs stage is used where its room is unknown.
func isMemory(string) bool { return false }

// lock only makes the file: a second writer on the same folder is not noticed here.
func lock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }

func ownedByMe(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}
