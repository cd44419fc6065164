package checkpoint

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestErrorsOfTheFolder(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for op, want := range map[string]string{"makedirs": "checkpoint: ", "readdir": "checkpoint: "} {
		d := newDisk(dir, &faultyDisk{broken: map[string]error{op + " " + dir: errInjected}})
		if _, err := d.Lock(ctx); !errors.Is(err, errInjected) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s fails: Lock: %v", op, err)
		}
		if d.held != nil {
			t.Errorf("%s fails: the lock is held", op)
		}
	}
	d := newDisk(dir, &faultyDisk{broken: map[string]error{"readdir " + dir: errInjected}})
	if _, err := d.List(ctx); !errors.Is(err, errInjected) {
		t.Errorf("List: %v", err)
	}
	unlock, err := NewDisk(dir).Lock(ctx) // the ones that failed gave it back
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := List(file); err == nil {
		t.Error("a file is listed as a folder")
	}
}

// A folder is this user's own.
func TestFoldersArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	w := open(t, local{Dir: dir}, realFiles{})
	if err := save(t, w, sample(1)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRoom(t *testing.T) {
	const free = 1000
	for _, c := range []struct {
		share uint64
		size  int64
		known bool
		fits  bool
	}{{1, free, true, true}, {1, free + 1, true, false}, {1, free + 1, false, true}, {2, free / 2, true, true}, {2, free/2 + 1, true, false}} {
		d := newDisk("dir", &faultyDisk{free: func(string) (uint64, bool) { return free, c.known }})
		d.share = c.share
		err := d.room(c.size)
		if (err == nil) != c.fits || err != nil && !errors.Is(err, ErrNoRoom) {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil && errors.Is(err, syscall.ENOSPC) != (c.share == 1) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What has a checkpoint's name and is none stays.
func TestAFileWithARoundsName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, RoundName(3))
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, local{Dir: dir}, realFiles{})
	if err := save(t, w, sample(3)); err == nil || !strings.Contains(err.Error(), "is not a checkpoint's folder") {
		t.Errorf("saved over a file: %v", err)
	}
	if err := NewDisk(dir).Remove(context.Background(), 3); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, RoundName(4))); err != nil {
		t.Skip(err)
	}
	if got := rounds(t, dir); len(got) > 0 {
		t.Errorf("%v are listed", got)
	}
}

// A folder or a pipe in the place of a file is damage, and is not read.
func TestWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local{Dir: dir}, realFiles{})
	for _, name := range []string{modelFile, manifestFile} {
		if err := save(t, w, sample(1)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, RoundName(1), name)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		var damage *CorruptError
		if _, err := Load(filepath.Dir(path)); !errors.As(err, &damage) || damage.File != name || damage.Reason != "missing" {
			t.Errorf("%s is a folder: %v", name, err)
		}
		if !strings.Contains(damage.Error(), "is damaged: "+name+": missing") || !strings.Contains(damage.Error(), RoundName(1)) {
			t.Errorf("%v", damage)
		}
	}
}

// The machine has room and knows its file systems, or tests of this package are skipped.
func TestFileSystemsOfThisMachine(t *testing.T) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Skip(err)
	}
	if strings.Contains(string(mounts), " /dev/shm tmpfs ") && !isMemory("/dev/shm") {
		t.Error("/dev/shm is a tmpfs, and is not taken for memory")
	}
	for _, path := range []string{"/proc", filepath.Join(t.TempDir(), "none")} {
		if isMemory(path) {
			t.Errorf("%s is taken for memory", path)
		}
	}
	if free, known := (realFiles{}).Free(t.TempDir()); !known || free == 0 {
		t.Errorf("%d bytes are free, known %v", free, known)
	}
	if free, known := (realFiles{}).Free(filepath.Join(t.TempDir(), "none")); known || free != 0 {
		t.Errorf("%d bytes are free nowhere, known %v", free, known)
	}
}

func TestOwnedByMe(t *testing.T) {
	dir := t.TempDir()
	for mode, want := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o720: false, 0o702: false, 0o500: true} {
		path := filepath.Join(dir, mode.String())
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got := ownedByMe(path); got != want {
			t.Errorf("mode %v: %v, want %v", mode, got, want)
		}
	}
	file, link, other := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "other")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(dir, link), os.Mkdir(other, 0o700)); err != nil {
		t.Fatal(err)
	}
	if ownedByMe(file) || ownedByMe(link) || ownedByMe(filepath.Join(dir, "none")) {
		t.Error("a file, a link or nothing is taken for a folder")
	}
	if err := os.Chown(other, os.Getuid()+1, -1); err != nil {
		t.Skip(err)
	}
	if ownedByMe(other) {
		t.Error("another user's folder is taken for one's own")
	}
}
