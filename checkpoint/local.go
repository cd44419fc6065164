package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// List describes the checkpoints in a folder, oldest first, damaged ones with their Err.
// It compares sizes and no hashes. A folder that does not exist holds none.
func List(dir string) ([]Entry, error) { return Entries(context.Background(), NewDisk(dir)) }

// Latest returns the folder of the newest checkpoint in dir that verifies, and the damaged
// ones that are newer. When there is none the error wraps [ErrNone].
func Latest(dir string) (path string, skipped []*CorruptError, err error) {
	ctx := context.Background()
	found, skipped, err := newest(ctx, []Store{NewDisk(dir)}, func(st Store, round uint64) error {
		_, err := Check(ctx, st, round)
		return err
	})
	return found.Path, skipped, err
}

// Load reads the checkpoint whose folder path is, under whatever name, and compares every
// hash. Damage is a [CorruptError].
func Load(path string) (*State, error) { return folder(path).load() }

// Verify is Load without keeping the values.
func Verify(path string) (Manifest, error) { return folder(path).verify() }

func folder(path string) source {
	return source{path, func(name string) (io.ReadCloser, int64, error) { return openRegular(filepath.Join(path, name)) }}
}

// openRegular opens a plain file. A pipe or a device in its place could block for ever.
func openRegular(path string) (io.ReadCloser, int64, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a plain file: %w", path, os.ErrNotExist)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func missing(err error) bool { return errors.Is(err, os.ErrNotExist) }
