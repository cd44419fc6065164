package checkpoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"loco/checkpoint/atomicfile"
)

const (
	lockName         = ".lock"
	tempPrefix       = atomicfile.TempPrefix // of every name that is not a finished checkpoint
	goneInfix        = "gone-"               // of one that is being removed
	replacedInfix    = "replaced-"           // of one whose place another is about to take
	writeBufferBytes = 256 << 10
)

// Disk is a [Store] in a folder, which one worker writes. Each checkpoint is a folder in
// it. Files are written and fsynced in a folder with a temporary name, which is renamed
// to the final one, and the parent is fsynced.
//
// The rename of a folder cannot replace another. A checkpoint that is replaced is
// therefore renamed first. A process that dies between the two renames leaves the round
// without a checkpoint until the next Lock, which gives the old one its name back.
type Disk struct {
	dir   string
	files fileSystem
	share uint64   // one share'th of the free room may be used
	held  *os.File // the lock; nil without

	buffer *bufio.Writer // of the file that is being written
}

// NewDisk returns the store in a folder. It touches nothing.
func NewDisk(dir string) *Disk { return newDisk(dir, realFiles{}) }

func newDisk(dir string, files fileSystem) *Disk { return &Disk{dir: dir, files: files, share: 1} }

// Where implements [Store]: it is the checkpoint's folder.
func (d *Disk) Where(round uint64) string { return filepath.Join(d.dir, RoundName(round)) }

// Lock implements [Store]. It makes the folder. On other systems than Linux it does not
// notice a second writer.
func (d *Disk) Lock(context.Context) (unlock func() error, err error) {
	if err := d.files.MakeDirs(d.dir); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	held, err := lock(filepath.Join(d.dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: lock: %w; give each worker a folder of its own", err)
	}
	if err := d.sweep(); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	d.held = held
	return func() error {
		d.held = nil
		return held.Close()
	}, nil
}

// sweep removes what dead processes left under temporary names, after it gave a
// checkpoint its name back that was not replaced after all.
func (d *Disk) sweep() error {
	items, err := d.files.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for _, item := range items {
		name, temporary := strings.CutPrefix(item.Name(), tempPrefix)
		if !temporary {
			continue
		}
		path := filepath.Join(d.dir, item.Name())
		name, replaced := strings.CutPrefix(name, replacedInfix)
		if round, ok := ParseRoundName(name); replaced && ok {
			if _, err := os.Lstat(d.Where(round)); missing(err) {
				if err := d.rename(path, d.Where(round)); err != nil {
					return fmt.Errorf("checkpoint: give %s its name back: %w", item.Name(), err)
				}
				continue
			}
		}
		if err := d.files.RemoveAll(path); err != nil {
			return fmt.Errorf("checkpoint: remove stale %s: %w", item.Name(), err)
		}
	}
	return nil
}

// Put implements [Store].
func (d *Disk) Put(_ context.Context, round uint64, size int64, fill func(Add) error) error {
	if err := d.room(size); err != nil {
		return err
	}
	path, temp := d.Where(round), d.temporary("", round)
	err := d.fillFolder(temp, fill)
	if err == nil {
		err = d.publish(temp, path, round)
	}
	if err == nil {
		return nil
	}
	_ = d.files.RemoveAll(temp) // what stays has a temporary name
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("checkpoint: %s: %w: disk full, %d bytes needed: %w", path, ErrNoRoom, size, err)
	}
	return fmt.Errorf("checkpoint: write %s: %w", path, err)
}

func (d *Disk) temporary(infix string, round uint64) string {
	return filepath.Join(d.dir, tempPrefix+infix+RoundName(round))
}

func (d *Disk) room(size int64) error {
	free, known := d.files.Free(d.dir)
	if !known || free/d.share >= uint64(size) {
		return nil
	}
	if d.share > 1 {
		return fmt.Errorf("checkpoint: %s: %w: %d bytes needed, 1/%d of the %d free may be used", d.dir, ErrNoRoom, size, d.share, free)
	}
	return fmt.Errorf("checkpoint: %s: %w: %d bytes needed, %d free; free some, or keep fewer checkpoints: %w", d.dir, ErrNoRoom, size, free, syscall.ENOSPC)
}

// fillFolder writes and fsyncs every file and then the folder that names them.
func (d *Disk) fillFolder(temp string, fill func(Add) error) error {
	if err := d.files.RemoveAll(temp); err != nil {
		return err
	}
	if err := d.files.Mkdir(temp); err != nil {
		return err
	}
	err := fill(func(name string, content func(io.Writer) error) error {
		if err := CheckName(name); err != nil {
			return err
		}
		return d.writeFile(filepath.Join(temp, name), content)
	})
	if err != nil {
		return err
	}
	return d.files.SyncDir(temp)
}

// writeFile writes, fsyncs and closes a file that is not there yet.
func (d *Disk) writeFile(path string, content func(io.Writer) error) error {
	f, err := d.files.Create(path)
	if err != nil {
		return err
	}
	if d.buffer == nil {
		d.buffer = bufio.NewWriterSize(nil, writeBufferBytes)
	}
	d.buffer.Reset(f)
	err = content(d.buffer)
	if err == nil {
		err = d.buffer.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// publish gives the finished folder its name. A folder that has it makes room: it was
// damaged, belongs to a past that the run went back from, or has fewer steps of the round.
// It goes when the new one is durable, and comes back when that fails.
func (d *Disk) publish(temp, path string, round uint64) error {
	info, err := os.Lstat(path)
	if missing(err) {
		return d.rename(temp, path)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a checkpoint's folder", path)
	}
	old := d.temporary(replacedInfix, round)
	if err := d.files.RemoveAll(old); err != nil {
		return err
	}
	if err := d.files.Rename(path, old); err != nil {
		return err
	}
	if err := d.files.Rename(temp, path); err != nil {
		return errors.Join(err, d.files.Rename(old, path))
	}
	if err := d.files.SyncDir(d.dir); err != nil {
		return err
	}
	return d.files.RemoveAll(old)
}

// rename is durable when it returns.
func (d *Disk) rename(from, to string) error {
	if err := d.files.Rename(from, to); err != nil {
		return err
	}
	return d.files.SyncDir(d.dir)
}

// Open implements [Store].
func (d *Disk) Open(_ context.Context, round uint64, name string) (io.ReadCloser, int64, error) {
	if err := CheckName(name); err != nil {
		return nil, 0, err
	}
	return openRegular(filepath.Join(d.Where(round), name))
}

// List implements [Store]. A folder that does not exist holds none.
func (d *Disk) List(context.Context) ([]uint64, error) {
	items, err := d.files.ReadDir(d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("checkpoint: list: %w", err)
	}
	var rounds []uint64
	for _, item := range items {
		if round, ok := ParseRoundName(item.Name()); ok && item.IsDir() {
			rounds = append(rounds, round)
		}
	}
	slices.Sort(rounds)
	return rounds, nil
}

// Remove implements [Store].
func (d *Disk) Remove(_ context.Context, round uint64) error {
	path, gone := d.Where(round), d.temporary(goneInfix, round)
	info, err := os.Lstat(path)
	if missing(err) || err == nil && !info.IsDir() {
		return nil
	}
	if err == nil {
		err = d.files.RemoveAll(gone)
	}
	if err == nil {
		err = d.rename(path, gone)
	}
	if err == nil {
		err = d.files.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: remove %s: %w", path, err)
	}
	return nil
}
