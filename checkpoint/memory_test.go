package checkpoint

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// memory returns a folder on a tmpfs.
func memory(t *testing.T) string {
	t.Helper()
	if !isMemory("/dev/shm") {
		t.Skip("no tmpfs on /dev/shm")
	}
	dir, err := os.MkdirTemp("/dev/shm", "loco-test-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestTheCopyInMemoryOutlivesAFailingDisk(t *testing.T) {
	shm, dir := memory(t), t.TempDir()
	durableFull := &faultyDisk{}
	var r record
	w := open(t, Config{Dir: dir, Tmpfs: shm, Observe: r.add}, durableFull)
	for round := uint64(1); round <= 2; round++ {
		if err := save(t, w, sample(round)); err != nil {
			t.Fatal(err)
		}
	}
	roots := Roots(dir, shm)
	if len(roots) != 2 || roots[1] != dir || !strings.HasPrefix(roots[0], shm) {
		t.Fatalf("roots %v", roots)
	}
	if got := rounds(t, roots[0]); !reflect.DeepEqual(got, []uint64{2}) {
		t.Errorf("memory holds %v, want the newest only", got)
	}
	durableFull.free = func(path string) (uint64, bool) {
		if path == dir {
			return 0, true
		}
		return disk{}.Free(path)
	}
	if err := save(t, w, sample(3)); err == nil {
		t.Error("a full disk is no error")
	}
	if err := w.Close(limit(t)); err == nil {
		t.Error("Close forgets the full disk")
	}
	got, path, _, err := LoadLatest(Roots(dir, shm)...)
	if err != nil || filepath.Dir(path) != roots[0] {
		t.Fatal(path, err)
	}
	sameBits(t, got, sample(3))
	if n, e := r.count(Tmpfs); n != 3 || e.Round != 3 || e.Bytes == 0 {
		t.Errorf("%d tmpfs events, last %+v", n, e)
	}

	// The next process finds it, and gives the memory back once the disk has it.
	w = open(t, Config{Dir: dir, Tmpfs: shm}, disk{})
	if err := save(t, w, got); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(limit(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(roots[0]); !os.IsNotExist(err) {
		t.Errorf("memory is still in use: %v", err)
	}
	if got := rounds(t, dir); !reflect.DeepEqual(got, []uint64{1, 2, 3}) {
		t.Errorf("durable folder holds %v", got)
	}
}

func TestADeletedRunDoesNotComeBackFromMemory(t *testing.T) {
	shm, dir := memory(t), filepath.Join(t.TempDir(), "run")
	full := &faultyDisk{free: func(path string) (uint64, bool) { return 1 << 40, path != dir }}
	w := open(t, Config{Dir: dir, Tmpfs: shm}, full)
	if err := save(t, w, sample(9)); err != nil {
		t.Fatal(err)
	}
	old := Roots(dir, shm)[0]
	if err := os.RemoveAll(dir); err != nil { // the process is dead as far as files go
		t.Fatal(err)
	}
	if roots := Roots(dir, shm); !reflect.DeepEqual(roots, []string{dir}) {
		t.Errorf("roots of a deleted run: %v", roots)
	}
	next := open(t, Config{Dir: dir, Tmpfs: shm}, disk{})
	if _, path, _, err := LoadLatest(Roots(dir, shm)...); err == nil {
		t.Errorf("a new run starts from %s", path)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old run's memory is not given back: %v", err)
	}
	if err := next.Close(limit(t)); err != nil {
		t.Error(err)
	}
}

func TestADeletedRunGivesItsMemoryBackToAnyWriter(t *testing.T) {
	shm, dir, live := memory(t), filepath.Join(t.TempDir(), "run"), t.TempDir()
	for _, d := range []string{dir, live} {
		w := open(t, Config{Dir: d, Tmpfs: shm}, &faultyDisk{free: func(string) (uint64, bool) { return 1 << 40, true }})
		if err := save(t, w, sample(9)); err != nil {
			t.Fatal(err)
		}
	}
	foreign := filepath.Join(shm, "loco-of-somebody")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	dead, alive := Roots(dir, shm)[0], Roots(live, shm)[0]
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Dir: t.TempDir(), Tmpfs: shm}, disk{})
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the deleted run's memory stays: %v", err)
	}
	for _, path := range []string{filepath.Join(alive, folderName(9)), foreign} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("another's memory is gone: %v", err)
		}
	}
}

func TestWithoutRoomInMemory(t *testing.T) {
	shm, dir := memory(t), t.TempDir()
	fs := &faultyDisk{free: func(path string) (uint64, bool) {
		if strings.HasPrefix(path, shm) {
			return 4096, true
		}
		return 1 << 40, true
	}}
	var r record
	w := open(t, Config{Dir: dir, Tmpfs: shm, Observe: r.add}, fs)
	if err := save(t, w, sample(1)); err != nil {
		t.Fatal(err)
	}
	if n, e := r.count(Skipped); n != 1 || e.Round != 1 || e.Err == nil || !strings.Contains(e.Err.Error(), "half of the 4096 free") {
		t.Errorf("%d skipped, last %+v", n, e)
	}
	if got := rounds(t, dir); !reflect.DeepEqual(got, []uint64{1}) {
		t.Errorf("durable folder holds %v", got)
	}
}

func TestTmpfsMustBeMemory(t *testing.T) {
	var r record
	w := open(t, Config{Dir: t.TempDir(), Tmpfs: filepath.Join(t.TempDir(), "none"), Observe: r.add}, disk{})
	if err := save(t, w, sample(1)); err != nil {
		t.Fatal(err)
	}
	if n, e := r.count(Skipped); n != 1 || e.Err == nil {
		t.Errorf("%d skipped, %v", n, e.Err)
	}
}

func TestOneWriterAFolder(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Config{Dir: dir}, disk{})
	if _, known := (disk{}).Free(dir); !known {
		t.Skip("no locks on this system")
	}
	if _, err := New(Config{Dir: dir, Keep: 1}); err == nil || !strings.Contains(err.Error(), "held by another process") {
		t.Errorf("second writer: %v", err)
	}
	if err := w.Close(limit(t)); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Dir: dir}, disk{})
}
