package atomicfile

import (
	"io"
	"io/fs"
	"os"
	"runtime"
)

// system is what changes the disk, so that tests can fail every operation.
type system struct {
	createTemp func(dir, pattern string) (file, error)
	rename     func(from, to string) error
	remove     func(path string) error
	syncDir    func(path string) error
}

type file interface {
	io.Writer
	io.WriterAt
	Name() string
	Chmod(fs.FileMode) error
	Sync() error
	Close() error
}

var disk = system{
	createTemp: func(dir, pattern string) (file, error) { return os.CreateTemp(dir, pattern) },
	rename:     os.Rename,
	remove:     os.Remove,
	syncDir:    syncDir,
}

func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
