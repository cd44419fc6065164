package checkpoint

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	tempPrefix       = ".tmp-" // of every name that is not a finished checkpoint
	writeBufferBytes = 1 << 20
	slackBytes       = 1 << 20 // manifest, folders, and blocks that are not full
)

// pytorch is the metadata that Hugging Face's loaders look for.
var pytorch = map[string]string{"format": "pt"}

// sizeOf is the bytes that a checkpoint of s takes.
func sizeOf(s *State) (int64, error) {
	model, err := tensorBytes(s.Model, pytorch)
	if err != nil {
		return 0, err
	}
	rest, err := tensorBytes(s.Vectors, nil)
	return model + rest + slackBytes, err
}

// publish writes s below dir, complete or invisible, and returns its path and bytes.
// It takes the place of a checkpoint of the same round unless that one is equal.
func publish(fs fileSystem, dir string, s *State) (path string, bytes int64, err error) {
	path = filepath.Join(dir, folderName(s.Round))
	need, err := sizeOf(s)
	if err != nil {
		return path, 0, fmt.Errorf("checkpoint: %s: %w", path, err)
	}
	if free, known := fs.Free(dir); known && free < uint64(need) {
		return path, 0, fmt.Errorf("checkpoint: %s: %w: %d bytes needed, %d free; free some, or keep fewer checkpoints", dir, syscall.ENOSPC, need, free)
	}
	temp := filepath.Join(dir, tempPrefix+folderName(s.Round))
	m, err := writeFolder(fs, temp, s)
	if err == nil {
		err = replace(fs, dir, temp, path, m)
	}
	if err != nil {
		_ = fs.RemoveAll(temp) // what stays has a temporary name
		if errors.Is(err, syscall.ENOSPC) {
			return path, 0, fmt.Errorf("checkpoint: %s: disk full, %d bytes needed: %w", path, need, err)
		}
		return path, 0, fmt.Errorf("checkpoint: write %s: %w", path, err)
	}
	return path, m.Bytes(), nil
}

// writeFolder writes and fsyncs every file and then the folder that names them.
func writeFolder(fs fileSystem, temp string, s *State) (Manifest, error) {
	m := Manifest{Format: formatVersion, Round: s.Round, Step: s.Step, Tokens: s.Tokens, Worker: s.Worker, Meta: s.Meta}
	if err := fs.RemoveAll(temp); err != nil {
		return m, err
	}
	if err := fs.Mkdir(temp); err != nil {
		return m, err
	}
	for _, part := range []struct {
		name    string
		vectors []Vector
		meta    map[string]string
	}{{modelFile, s.Model, pytorch}, {stateFile, s.Vectors, nil}} {
		f, err := writeFile(fs, filepath.Join(temp, part.name), func(w io.Writer) error {
			return WriteTensors(w, part.vectors, part.meta)
		})
		if err != nil {
			return m, err
		}
		m.Files = append(m.Files, f)
	}
	text, err := m.encode()
	if err != nil {
		return m, err
	}
	if _, err := writeFile(fs, filepath.Join(temp, manifestFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}); err != nil {
		return m, err
	}
	return m, fs.SyncDir(temp)
}

// writeFile writes, fsyncs and closes one file, and hashes it on the way.
func writeFile(fs fileSystem, path string, content func(io.Writer) error) (File, error) {
	f, err := fs.Create(path)
	if err != nil {
		return File{}, err
	}
	h, counted := sha256.New(), &counter{w: f}
	buffered := bufio.NewWriterSize(counted, writeBufferBytes)
	err = content(io.MultiWriter(buffered, h))
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return File{filepath.Base(path), counted.n, hex.EncodeToString(h.Sum(nil))}, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// replace gives the finished folder its name. A folder that already has it is kept
// when it is equal (a run that ends where it last saved), and otherwise makes room: it
// was damaged, or belongs to a past that the run went back from.
func replace(fs fileSystem, dir, temp, path string, m Manifest) error {
	if _, err := os.Lstat(path); err == nil {
		if old, err := Verify(path); err == nil && sameContent(old, m) {
			return fs.RemoveAll(temp)
		}
		if err := discard(fs, dir, path); err != nil {
			return err
		}
	}
	if err := fs.Rename(temp, path); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}

func sameContent(a, b Manifest) bool {
	x, errX := a.encode()
	y, errY := b.encode()
	return errX == nil && errY == nil && string(x) == string(y)
}

// discard removes a checkpoint; it is invisible before its first file goes.
func discard(fs fileSystem, dir, path string) error {
	gone := filepath.Join(dir, tempPrefix+"gone-"+filepath.Base(path))
	if err := fs.RemoveAll(gone); err != nil {
		return err
	}
	if err := fs.Rename(path, gone); err != nil {
		return err
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	return fs.RemoveAll(gone)
}

// prune removes all but the newest keep checkpoints up to the round current, which
// was just written, and those of every keepEvery-th round (0: none of them). Newer
// ones are left: they are of a future that the run went back from, and what becomes of
// them is the user's to say.
func prune(fs fileSystem, dir string, current uint64, keep, keepEvery int) error {
	entries, err := List(dir)
	if err != nil {
		return err
	}
	for len(entries) > 0 && entries[len(entries)-1].Round > current {
		entries = entries[:len(entries)-1]
	}
	for _, e := range entries[:max(0, len(entries)-keep)] {
		if keepEvery > 0 && e.Round%uint64(keepEvery) == 0 {
			continue
		}
		if err := discard(fs, dir, e.Path); err != nil {
			return fmt.Errorf("checkpoint: remove %s: %w", e.Path, err)
		}
	}
	return nil
}

// sweep removes what dead processes left under temporary names. The caller holds the
// folder's lock.
func sweep(fs fileSystem, dir string) error {
	items, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for _, item := range items {
		if strings.HasPrefix(item.Name(), tempPrefix) {
			if err := fs.RemoveAll(filepath.Join(dir, item.Name())); err != nil {
				return fmt.Errorf("checkpoint: remove stale %s: %w", item.Name(), err)
			}
		}
	}
	return nil
}
