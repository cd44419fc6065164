package data

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// sharedMode lets other users of the machine read prepared data.
const sharedMode = 0o644

// publish makes a temporary file durable and gives it its final name in the same
// folder: afterwards the name holds all of it or, on an error, what it held before.
func publish(f *os.File, path string) error {
	if err := errors.Join(f.Chmod(sharedMode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there; the rename is journalled
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// discard closes and removes a temporary file; it does nothing after publish.
func discard(f *os.File) error {
	err := f.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if rm := os.Remove(f.Name()); !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}
