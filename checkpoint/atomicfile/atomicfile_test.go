package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// faults is the real disk of which one operation fails, and all after it when the process
// is killed there.
type faults struct {
	ops    []string
	failAt int // counted from 1; 0 is never
	kill   bool
}

var errInjected = errors.New("injected")

func (f *faults) step(op string) error {
	f.ops = append(f.ops, op)
	if n := len(f.ops); f.failAt > 0 && (n == f.failAt || f.kill && n > f.failAt) {
		return fmt.Errorf("%s: %w", op, errInjected)
	}
	return nil
}

func (f *faults) system() system {
	return system{
		createTemp: func(dir, pattern string) (file, error) {
			if err := f.step("create"); err != nil {
				return nil, err
			}
			real, err := disk.createTemp(dir, pattern)
			return &faultyFile{real, f}, err
		},
		rename: func(from, to string) error {
			if err := f.step("rename"); err != nil {
				return err
			}
			return disk.rename(from, to)
		},
		remove: func(path string) error {
			if err := f.step("remove"); err != nil {
				return err
			}
			return disk.remove(path)
		},
		syncDir: func(dir string) error {
			if err := f.step("syncdir"); err != nil {
				return err
			}
			return disk.syncDir(dir)
		},
	}
}

type faultyFile struct {
	file
	faults *faults
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.faults.step("write"); err != nil {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, err
	}
	return f.file.Write(p)
}

func (f *faultyFile) WriteAt(p []byte, at int64) (int, error) {
	if err := f.faults.step("writeat"); err != nil {
		return 0, err
	}
	return f.file.WriteAt(p, at)
}

func (f *faultyFile) Chmod(m fs.FileMode) error {
	if err := f.faults.step("chmod"); err != nil {
		return err
	}
	return f.file.Chmod(m)
}

func (f *faultyFile) Sync() error {
	if err := f.faults.step("sync"); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultyFile) Close() error {
	return errors.Join(f.faults.step("close"), f.file.Close())
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	items, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		list = append(list, item.Name())
	}
	return list
}

// replace writes "new file" in two pieces, the first of them last.
func replace(s system, path string) error {
	f, err := create(s, path, 0o640)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write([]byte("... file")); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte("new"), 0); err != nil {
		return err
	}
	return f.Commit()
}

func TestEveryOperationFails(t *testing.T) {
	want := []string{"create", "write", "writeat", "chmod", "sync", "close", "rename", "syncdir"}
	for _, kill := range []bool{false, true} {
		for i, op := range want {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if err := os.WriteFile(path, []byte("old file"), 0o600); err != nil {
				t.Fatal(err)
			}
			faulty := &faults{failAt: i + 1, kill: kill}
			err := replace(faulty.system(), path)
			if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), op) {
				t.Errorf("%s fails, kill %v: error %v does not name it", op, kill, err)
			}
			wantText := "old file"
			if op == "syncdir" {
				wantText = "new file"
			}
			if got := content(t, path); got != wantText {
				t.Errorf("%s fails, kill %v: the file holds %q, want %q", op, kill, got, wantText)
			}
			left := names(t, dir)
			left = slices.DeleteFunc(left, func(n string) bool { return n == "f" || kill && strings.HasPrefix(n, TempPrefix+"f-") })
			if len(left) > 0 {
				t.Errorf("%s fails, kill %v: %q are left", op, kill, left)
			}
		}
	}
	whole := &faults{}
	path := filepath.Join(t.TempDir(), "f")
	if err := replace(whole.system(), path); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(whole.ops, want) {
		t.Errorf("operations %q, want %q", whole.ops, want)
	}
	if got := content(t, path); got != "new file" {
		t.Errorf("the file holds %q", got)
	}
}

// A caller that overlooks a failed write does not get half a file.
func TestCommitAfterAFailedWrite(t *testing.T) {
	for op, write := range map[string]func(*File){
		"write":   func(f *File) { f.Write([]byte("abcd")); f.Write([]byte("efgh")) },
		"writeat": func(f *File) { f.WriteAt([]byte("abcd"), 0); f.Write([]byte("efgh")) },
	} {
		dir := t.TempDir()
		faulty := &faults{failAt: 2}
		f, err := create(faulty.system(), filepath.Join(dir, "f"), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		write(f)
		if err := f.Commit(); !errors.Is(err, errInjected) || !strings.Contains(err.Error(), op) {
			t.Errorf("Commit after a failed %s: %v", op, err)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("after a failed %s: %q are left", op, left)
		}
	}
}

func TestContentFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Write(path, 0o600, func(w io.Writer) error {
		io.WriteString(w, "half")
		return errInjected
	})
	if !errors.Is(err, errInjected) || content(t, path) != "old" || len(names(t, dir)) != 1 {
		t.Errorf("%v, %q, %q", err, content(t, path), names(t, dir))
	}
	if err := writeFile((&faults{failAt: 1}).system(), path, []byte("new"), 0o600); !errors.Is(err, errInjected) {
		t.Errorf("create fails: %v", err)
	}
	// The removal of the temporary file is reported as well.
	faulty := &faults{failAt: 2, kill: true}
	err = write(faulty.system(), path, 0o600, func(io.Writer) error { return io.ErrUnexpectedEOF })
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "close: injected") || !strings.Contains(err.Error(), "remove: injected") {
		t.Errorf("%v", err)
	}
}

func TestModes(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []fs.FileMode{0o600, 0o644, 0o444} {
		path := filepath.Join(dir, fmt.Sprint(mode))
		faulty := &faults{}
		if err := writeFile(faulty.system(), path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, %v, want mode %v", info.Mode(), err, mode)
		}
		if changed := slices.Contains(faulty.ops, "chmod"); changed != (mode != 0o600) {
			t.Errorf("mode %v: changed %v", mode, changed)
		}
	}
	f, err := Create(filepath.Join(dir, "later"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	if info, err := os.Stat(f.Name()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the temporary file is not private: %v, %v", info.Mode(), err)
	}
	if base := filepath.Base(f.Name()); filepath.Dir(f.Name()) != dir || !strings.HasPrefix(base, TempPrefix+"later-") {
		t.Errorf("temporary name %s", f.Name())
	}
}

func TestEnds(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "a"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "text")
	if err := f.CommitAs(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := f.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	if err := f.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Commit: %v", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"b"}) || content(t, filepath.Join(dir, "b")) != "text" {
		t.Errorf("the folder holds %q", got)
	}
	faulty := &faults{}
	if f, err = create(faulty.system(), filepath.Join(dir, "c"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Abort(); err != nil {
		t.Error(err)
	}
	done := len(faulty.ops)
	if err := f.Commit(); err != fs.ErrClosed || len(faulty.ops) != done {
		t.Errorf("Commit after Abort: %v, after %q", err, faulty.ops)
	}
	if err := f.Abort(); err != nil || len(faulty.ops) != done {
		t.Errorf("second Abort: %v, after %q", err, faulty.ops)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"b"}) {
		t.Errorf("after Abort the folder holds %q", got)
	}
	if _, err := Create(filepath.Join(dir, "none", "f"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	if err := SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir without a folder: %v", err)
	}
}

func TestSyncDirReportsTheFsync(t *testing.T) {
	d, err := os.Open("/proc/self")
	if err != nil {
		t.Skip(err)
	}
	defer d.Close()
	if d.Sync() == nil {
		t.Skip("this system syncs /proc")
	}
	if err := SyncDir("/proc/self"); err == nil {
		t.Error("an fsync that fails is not reported")
	}
}

// A reader sees the old or the new content, and never a part.
func TestReadersSeeWholeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	texts := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<15)}
	if err := WriteFile(path, texts[0], 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		var err error
		for i := 0; i < 50 && err == nil; i++ {
			err = WriteFile(path, texts[i%2], 0o600)
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			if got := content(t, path); got != string(texts[0]) && got != string(texts[1]) {
				t.Errorf("a reader sees %d bytes", len(got))
			}
		}
	}
}
