package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// faultyDisk is the real disk with a plan: from operation failAt on, counted from 1,
// one operation or all of them fail, and a failing write is a torn one.
type faultyDisk struct {
	realFiles
	hook   func(op string) error // when set, it is the plan
	mu     sync.Mutex
	ops    []string
	failAt int
	crash  bool // everything after failAt fails too
	err    error
	free   func(path string) (uint64, bool)
	broken map[string]error // operations that fail, "makedirs PATH" or "readdir PATH"
	block  chan struct{}    // when set, Create waits for it

	entered chan struct{} // told when Create waits
}

var errInjected = errors.New("injected")

func (f *faultyDisk) step(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook != nil {
		return f.hook(op)
	}
	f.ops = append(f.ops, op)
	n := len(f.ops)
	if f.failAt > 0 && (n == f.failAt || f.crash && n > f.failAt) {
		if f.err != nil {
			return f.err
		}
		return errInjected
	}
	return nil
}

func (f *faultyDisk) Mkdir(path string) error {
	if err := f.step("mkdir " + filepath.Base(path)); err != nil {
		return err
	}
	return f.realFiles.Mkdir(path)
}

func (f *faultyDisk) Rename(from, to string) error {
	if err := f.step("rename " + filepath.Base(from) + " " + filepath.Base(to)); err != nil {
		return err
	}
	return f.realFiles.Rename(from, to)
}

func (f *faultyDisk) RemoveAll(path string) error {
	if err := f.step("remove " + filepath.Base(path)); err != nil {
		_ = os.Remove(filepath.Join(path, modelFile)) // dies half-way
		return err
	}
	return f.realFiles.RemoveAll(path)
}

func (f *faultyDisk) SyncDir(path string) error {
	if err := f.step("syncdir " + filepath.Base(path)); err != nil {
		return err
	}
	return f.realFiles.SyncDir(path)
}

func (f *faultyDisk) MakeDirs(path string) error {
	if err := f.broken["makedirs "+path]; err != nil {
		return err
	}
	return f.realFiles.MakeDirs(path)
}

func (f *faultyDisk) ReadDir(path string) ([]os.DirEntry, error) {
	if err := f.broken["readdir "+path]; err != nil {
		return nil, err
	}
	return f.realFiles.ReadDir(path)
}

func (f *faultyDisk) Free(path string) (uint64, bool) {
	if f.free != nil {
		return f.free(path)
	}
	return f.realFiles.Free(path)
}

func (f *faultyDisk) Create(path string) (file, error) {
	if f.block != nil {
		select {
		case f.entered <- struct{}{}:
		default:
		}
		<-f.block
	}
	if err := f.step("create " + filepath.Base(path)); err != nil {
		return nil, err
	}
	real, err := f.realFiles.Create(path)
	return &faultyFile{f, real, filepath.Base(path)}, err
}

type faultyFile struct {
	disk *faultyDisk
	real file
	name string
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.disk.step("write " + f.name); err != nil {
		n, _ := f.real.Write(p[:len(p)/2])
		return n, err
	}
	return f.real.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.disk.step("sync " + f.name); err != nil {
		return err
	}
	return f.real.Sync()
}

func (f *faultyFile) Close() error {
	err := f.disk.step("close " + f.name)
	return errors.Join(err, f.real.Close())
}
