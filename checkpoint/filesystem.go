package checkpoint

import (
	"io"
	"os"

	"loco/checkpoint/atomicfile"
)

// fileSystem is everything that changes a disk, so that tests can fail the n-th change, and
// what lists it.
type fileSystem interface {
	MakeDirs(path string) error
	Mkdir(path string) error
	Create(path string) (file, error)
	Rename(from, to string) error
	RemoveAll(path string) error
	SyncDir(path string) error
	ReadDir(path string) ([]os.DirEntry, error)
	// Free is the bytes that this user may still write at path; known is false where
	// the system cannot say.
	Free(path string) (bytes uint64, known bool)
}

type file interface {
	io.Writer
	Sync() error
	Close() error
}

// realFiles is the real file system. Folders are the user's own: a checkpoint is a run's
// weights, and a tmpfs is shared by everybody on the machine.
type realFiles struct{}

func (realFiles) MakeDirs(path string) error   { return os.MkdirAll(path, 0o700) }
func (realFiles) Mkdir(path string) error      { return os.Mkdir(path, 0o700) }
func (realFiles) Rename(from, to string) error { return os.Rename(from, to) }
func (realFiles) RemoveAll(path string) error  { return os.RemoveAll(path) }
func (realFiles) SyncDir(path string) error    { return atomicfile.SyncDir(path) }

func (realFiles) ReadDir(path string) ([]os.DirEntry, error) { return os.ReadDir(path) }

func (realFiles) Create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
