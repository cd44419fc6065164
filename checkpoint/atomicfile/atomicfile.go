// Package atomicfile replaces a file whole or not at all.
//
// The content goes to a temporary file in the folder of the final name, because a rename
// is atomic within one file system only. [File.Commit] fsyncs and closes the temporary
// file, renames it, and fsyncs the folder where the system can do that. Every error on the
// way is reported, that of the close too, and leaves the final name as it was, with one
// exception: when only the fsync of the folder fails, the name has the new content, and a
// crash of the machine may take it back.
//
// A process that is killed leaves a file whose name begins with [TempPrefix]. Nothing
// reads it. Its owner may remove it.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
)

// TempPrefix begins the name of every temporary file.
const TempPrefix = ".tmp-"

// privateMode is the mode that a temporary file is made with.
const privateMode fs.FileMode = 0o600

// WriteFile replaces the file at path by data.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return writeFile(disk, path, data, mode)
}

func writeFile(s system, path string, data []byte, mode fs.FileMode) error {
	return write(s, path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write replaces the file at path by what content writes. An error of content leaves the
// file as it was.
func Write(path string, mode fs.FileMode, content func(io.Writer) error) error {
	return write(disk, path, mode, content)
}

func write(s system, path string, mode fs.FileMode, content func(io.Writer) error) error {
	f, err := create(s, path, mode)
	if err != nil {
		return err
	}
	if err := content(f); err != nil {
		return errors.Join(err, f.Abort())
	}
	return f.Commit()
}

// SyncDir makes the renames and removals in a folder durable. It does nothing on Windows,
// which cannot sync a folder and journals its renames.
func SyncDir(dir string) error { return disk.syncDir(dir) }

// A File is a file that has no final name yet. It ends with Commit, CommitAs or Abort.
type File struct {
	system system
	temp   file
	path   string // the final name
	mode   fs.FileMode
	err    error // of the first write that failed
	ended  bool
}

// Create begins a replacement of the file at path. mode is that of the file once it has
// its name; until then it is its owner's alone.
func Create(path string, mode fs.FileMode) (*File, error) { return create(disk, path, mode) }

func create(s system, path string, mode fs.FileMode) (*File, error) {
	temp, err := s.createTemp(filepath.Dir(path), TempPrefix+filepath.Base(path)+"-*")
	if err != nil {
		return nil, err
	}
	return &File{system: s, temp: temp, path: path, mode: mode}, nil
}

// Name is the temporary name.
func (f *File) Name() string { return f.temp.Name() }

// Write implements io.Writer. Commit fails after a Write that failed.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.temp.Write(p)
	return n, f.note(err)
}

// WriteAt implements io.WriterAt. Commit fails after a WriteAt that failed.
func (f *File) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.temp.WriteAt(p, offset)
	return n, f.note(err)
}

func (f *File) note(err error) error {
	if f.err == nil {
		f.err = err
	}
	return err
}

// Commit gives the file its name. It ends the file in any case: after an error the
// temporary file is removed.
func (f *File) Commit() error { return f.CommitAs(f.path) }

// CommitAs is Commit under another name in the same folder, such as one that depends on
// the content.
func (f *File) CommitAs(path string) error {
	if f.ended {
		return fs.ErrClosed
	}
	f.ended = true
	err := f.err
	if err == nil && f.mode != privateMode {
		err = f.temp.Chmod(f.mode)
	}
	if err == nil {
		err = f.temp.Sync()
	}
	if closeErr := f.temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = f.system.rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, f.system.remove(f.Name()))
	}
	return f.system.syncDir(filepath.Dir(path))
}

// Abort removes the temporary file. It does nothing after Commit, so that it may be
// deferred.
func (f *File) Abort() error {
	if f.ended {
		return nil
	}
	f.ended = true
	return errors.Join(f.temp.Close(), f.system.remove(f.Name()))
}
