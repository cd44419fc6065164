package checkpoint

import (
	"context"
	"errors"
	"io/fs"
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

// copies is the folder in memory that belongs to dir, "" for none.
func copies(dir, shm string) string {
	if d := NewTmpfs(shm, NewDisk(dir)).current(); d != nil {
		return d.dir
	}
	return ""
}

func newestOf(dir, shm string) (*State, string, []*CorruptError, error) {
	disk := NewDisk(dir)
	s, found, skipped, err := Newest(context.Background(), NewTmpfs(shm, disk), disk)
	return s, found.Path, skipped, err
}

func TestTheCopyInMemoryOutlivesAFailingDisk(t *testing.T) {
	shm, dir := memory(t), t.TempDir()
	durableFull := &faultyDisk{}
	var r record
	w := open(t, local{Dir: dir, Tmpfs: shm, Observe: r.add}, durableFull)
	for round := uint64(1); round <= 2; round++ {
		if err := save(t, w, sample(round)); err != nil {
			t.Fatal(err)
		}
	}
	folder := copies(dir, shm)
	if !strings.HasPrefix(folder, shm) {
		t.Fatalf("the copies are in %q", folder)
	}
	if got := rounds(t, folder); !reflect.DeepEqual(got, []uint64{2}) {
		t.Errorf("memory holds %v, want the newest only", got)
	}
	durableFull.free = func(path string) (uint64, bool) {
		if path == dir {
			return 0, true
		}
		return realFiles{}.Free(path)
	}
	if err := save(t, w, sample(3)); err == nil {
		t.Error("a full disk is no error")
	}
	if err := w.Close(limit(t)); err == nil {
		t.Error("Close forgets the full disk")
	}
	got, path, _, err := newestOf(dir, shm)
	if err != nil || filepath.Dir(path) != folder {
		t.Fatal(path, err)
	}
	sameBits(t, got, sample(3))
	if n, e := r.count(InMemory); n != 3 || e.Round != 3 || e.Bytes == 0 {
		t.Errorf("%d tmpfs events, last %+v", n, e)
	}

	// The next process finds it, and gives the memory back once the disk has it.
	w = open(t, local{Dir: dir, Tmpfs: shm}, realFiles{})
	if err := save(t, w, got); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(limit(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("memory is still in use: %v", err)
	}
	if got := rounds(t, dir); !reflect.DeepEqual(got, []uint64{1, 2, 3}) {
		t.Errorf("durable folder holds %v", got)
	}
}

func TestADeletedRunDoesNotComeBackFromMemory(t *testing.T) {
	shm, dir := memory(t), filepath.Join(t.TempDir(), "run")
	full := &faultyDisk{free: func(path string) (uint64, bool) { return 1 << 40, path != dir }}
	w := open(t, local{Dir: dir, Tmpfs: shm}, full)
	if err := save(t, w, sample(9)); err != nil {
		t.Fatal(err)
	}
	old := copies(dir, shm)
	if err := os.RemoveAll(dir); err != nil { // the process is dead as far as files go
		t.Fatal(err)
	}
	if folder := copies(dir, shm); folder != "" {
		t.Errorf("a deleted run has copies in %s", folder)
	}
	next := open(t, local{Dir: dir, Tmpfs: shm}, realFiles{})
	if _, path, _, err := newestOf(dir, shm); err == nil {
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
		w := open(t, local{Dir: d, Tmpfs: shm}, &faultyDisk{free: func(string) (uint64, bool) { return 1 << 40, true }})
		if err := save(t, w, sample(9)); err != nil {
			t.Fatal(err)
		}
	}
	foreign := filepath.Join(shm, "loco-of-somebody")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	dead, alive := copies(dir, shm), copies(live, shm)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	open(t, local{Dir: t.TempDir(), Tmpfs: shm}, realFiles{})
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the deleted run's memory stays: %v", err)
	}
	for _, path := range []string{filepath.Join(alive, RoundName(9)), foreign} {
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
	w := open(t, local{Dir: dir, Tmpfs: shm, Observe: r.add}, fs)
	if err := save(t, w, sample(1)); err != nil {
		t.Fatal(err)
	}
	if n, e := r.count(string(Skipped)); n != 1 || e.Round != 1 || e.Err == nil || !strings.Contains(e.Err.Error(), "1/2 of the 4096 free") {
		t.Errorf("%d skipped, last %+v", n, e)
	}
	if got := rounds(t, dir); !reflect.DeepEqual(got, []uint64{1}) {
		t.Errorf("durable folder holds %v", got)
	}
}

func TestTmpfsMustBeMemory(t *testing.T) {
	var r record
	w := open(t, local{Dir: t.TempDir(), Tmpfs: filepath.Join(t.TempDir(), "none"), Observe: r.add}, realFiles{})
	if err := save(t, w, sample(1)); err != nil {
		t.Fatal(err)
	}
	if n, e := r.count(string(Skipped)); n != 1 || e.Err == nil {
		t.Errorf("%d skipped, %v", n, e.Err)
	}
}

func TestOneWriterAFolder(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local{Dir: dir}, realFiles{})
	if _, known := (realFiles{}).Free(dir); !known {
		t.Skip("no locks on this system")
	}
	if _, err := New(Config{Stages: Local(dir, "", 1, 0)}); err == nil || !strings.Contains(err.Error(), "held by another process") {
		t.Errorf("second writer: %v", err)
	}
	if err := w.Close(limit(t)); err != nil {
		t.Fatal(err)
	}
	open(t, local{Dir: dir}, realFiles{})
}

// A folder goes only when its owner file names its disk's folder, and that is gone or is
// another run's. In doubt it stays.
func TestWhatIsNoOrphan(t *testing.T) {
	const own, other = "0123456789abcdef", "fedcba9876543210"
	for what, c := range map[string]struct {
		owner  func(dir string) string // "" is no file
		lock   string                  // "" is none
		name   func(folder, dir string) string
		orphan bool
	}{
		"the disk's folder is gone":       {orphan: true},
		"another run took its place":      {lock: other, orphan: true},
		"another run is about to":         {lock: "0123"},
		"a lock file that is no token":    {lock: "this is no token"},
		"its own run":                     {lock: own},
		"its own run, and more":           {lock: own + "\n"},
		"no owner file":                   {owner: func(string) string { return "" }},
		"a relative owner":                {owner: func(string) string { return "run/checkpoints" }},
		"an owner that was cut short":     {owner: func(dir string) string { return dir[:len(dir)-1] }},
		"an owner with a line's end":      {owner: func(dir string) string { return dir + "\n" }},
		"an owner of zeros":               {owner: func(dir string) string { return string(make([]byte, len(dir))) }},
		"an owner that is too long":       {owner: func(dir string) string { return dir + strings.Repeat("/", ownerBytesMax) }},
		"a token that is too short":       {name: func(folder, _ string) string { return folder[:len(folder)-2] }},
		"a token that is none":            {name: func(folder, _ string) string { return folder[:len(folder)-1] + "g" }},
		"no token":                        {name: func(folder, _ string) string { return folder[:len(folder)-len(own)-1] }},
		"a name with another path's hash": {name: func(folder, dir string) string { return tmpfsFolder(filepath.Dir(folder), dir+"x", own) }},
		"a name that is not a copy's":     {name: func(folder, _ string) string { return filepath.Join(filepath.Dir(folder), "other-"+own) }},
	} {
		shm, dir := memory(t), filepath.Join(t.TempDir(), "run")
		path := tmpfsFolder(shm, dir, own)
		if c.name != nil {
			path = c.name(path, dir)
		}
		if err := os.MkdirAll(filepath.Join(path, RoundName(1)), 0o700); err != nil {
			t.Fatal(err)
		}
		text := dir
		if c.owner != nil {
			text = c.owner(dir)
		}
		if text != "" {
			if err := os.WriteFile(filepath.Join(path, ownerName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c.lock != "" {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, lockName), []byte(c.lock), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		open(t, local{Dir: t.TempDir(), Tmpfs: shm}, realFiles{}) // a writer of another run
		if _, err := os.Stat(path); os.IsNotExist(err) != c.orphan {
			t.Errorf("%s: removed %v, want %v", what, os.IsNotExist(err), c.orphan)
		}
	}
}

func TestTmpfsNeedsTheDisksLock(t *testing.T) {
	ctx := context.Background()
	shm, dir := memory(t), t.TempDir()
	disk := NewDisk(dir)
	tmpfs := NewTmpfs(shm, disk)
	if _, err := tmpfs.Lock(ctx); err == nil || !strings.Contains(err.Error(), dir+" is not locked") {
		t.Errorf("Lock: %v", err)
	}
	for what, err := range map[string]error{
		"Put":    tmpfs.Put(ctx, 1, 1, func(Add) error { return nil }),
		"Remove": tmpfs.Remove(ctx, 1),
	} {
		if err == nil || !strings.Contains(err.Error(), "not locked") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := tmpfs.Open(ctx, 1, manifestFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if got := tmpfs.Where(1); got != filepath.Join(shm, RoundName(1)) {
		t.Errorf("Where: %s", got)
	}
	if items, err := os.ReadDir(shm); err != nil || len(items) > 0 {
		t.Errorf("it made %v, %v", items, err)
	}
	unlockDisk, err := disk.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := tmpfs.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	folder := copies(dir, shm)
	if folder == "" || tmpfs.Where(1) != filepath.Join(folder, RoundName(1)) {
		t.Errorf("Where: %s, the folder is %q", tmpfs.Where(1), folder)
	}
	if owner, err := os.ReadFile(filepath.Join(folder, ownerName)); err != nil || string(owner) != dir {
		t.Errorf("owner %q, %v", owner, err)
	}
	if err := errors.Join(unlock(), unlockDisk()); err != nil {
		t.Error(err)
	}
	if items, err := os.ReadDir(shm); err != nil || len(items) > 0 {
		t.Errorf("it leaves %v, %v", items, err)
	}
	// The token stays, and with it the place.
	if _, err := disk.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := tmpfs.Lock(ctx); err != nil || copies(dir, shm) != folder {
		t.Errorf("the copies moved from %s to %s, %v", folder, copies(dir, shm), err)
	}
	disk.held.Close()
}

// Without a token there is no folder, whatever is there.
func TestNoTokenNoFolder(t *testing.T) {
	shm, dir := memory(t), t.TempDir()
	for _, lock := range []string{"", "0123", "0123456789abcdeg"} {
		if err := os.WriteFile(filepath.Join(dir, lockName), []byte(lock), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(tmpfsFolder(shm, dir, lock), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := copies(dir, shm); got != "" {
			t.Errorf("with token %q the copies are in %s", lock, got)
		}
	}
}

func TestErrorsOfTmpfs(t *testing.T) {
	for what, c := range map[string]struct {
		broken func(shm, folder string) string
		failAt int
	}{
		"the root cannot be listed":   {broken: func(shm, _ string) string { return "readdir " + shm }},
		"the folder cannot be made":   {broken: func(_, folder string) string { return "makedirs " + folder }},
		"the folder cannot be listed": {broken: func(_, folder string) string { return "readdir " + folder }},
		"an orphan cannot be removed": {failAt: 1},
	} {
		shm, dir, gone := memory(t), t.TempDir(), filepath.Join(t.TempDir(), "gone")
		orphan := tmpfsFolder(shm, gone, "0123456789abcdef")
		if err := errors.Join(os.Mkdir(orphan, 0o700), os.WriteFile(filepath.Join(orphan, ownerName), []byte(gone), 0o600), os.WriteFile(filepath.Join(dir, lockName), []byte("0123456789abcdef"), 0o600)); err != nil {
			t.Fatal(err)
		}
		fs := &faultyDisk{failAt: c.failAt}
		if c.broken != nil {
			fs.broken = map[string]error{c.broken(shm, tmpfsFolder(shm, dir, "0123456789abcdef")): errInjected}
		}
		var r record
		w := open(t, local{Dir: dir, Tmpfs: shm, Observe: r.add}, fs)
		if n, e := r.count(string(Skipped)); n != 1 || !errors.Is(e.Err, errInjected) || e.Stage != InMemory {
			t.Errorf("%s: %d skipped, %+v", what, n, e)
		}
		if err := w.Close(limit(t)); err != nil {
			t.Error(err)
		}
	}
	// Another's folder is not used.
	shm, dir := memory(t), t.TempDir()
	folder := tmpfsFolder(shm, dir, "0123456789abcdef")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, lockName), []byte("0123456789abcdef"), 0o600), os.Mkdir(folder, 0o700), os.Chmod(folder, 0o777)); err != nil {
		t.Fatal(err)
	}
	var r record
	open(t, local{Dir: dir, Tmpfs: shm, Observe: r.add}, realFiles{})
	if n, e := r.count(string(Skipped)); n != 1 || e.Err == nil || !strings.Contains(e.Err.Error(), "not this user's own") {
		t.Errorf("%d skipped, %+v", n, e)
	}
}
