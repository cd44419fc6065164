package checkpoint_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"loco/checkpoint"
	"loco/checkpoint/storetest"
)

func TestDisk(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		dir := filepath.Join(folderOf(t), "made", "by", "lock")
		subject := onDisk(t, func() string { return dir }, ".lock")
		subject.Open = func(step func(string) error) (checkpoint.Store, func()) {
			d := checkpoint.NewDisk(dir).Step(step)
			return d, d.Die
		}
		return subject
	})
}

func TestTmpfs(t *testing.T) {
	if !checkpoint.IsMemory("/dev/shm") {
		t.Skip("no tmpfs on /dev/shm")
	}
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		root, dir := folderOf(t), folderOf(t)
		subject := onDisk(t, func() string { return checkpoint.NewTmpfs(root, checkpoint.NewDisk(dir)).Folder() }, "owner")
		subject.Open = func(step func(string) error) (checkpoint.Store, func()) {
			d := checkpoint.NewDisk(dir).Step(step)
			if _, err := d.Lock(t.Context()); err != nil {
				return checkpoint.NewTmpfs(root, d), func() {} // a reader, beside the writer
			}
			return checkpoint.NewTmpfs(root, d), d.Die
		}
		return subject
	})
}

// folderOf is a folder of the test's, in memory where there is such a thing, because an
// fsync of a disk takes milliseconds.
func folderOf(t *testing.T) string {
	if !checkpoint.IsMemory("/dev/shm") {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "loco-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// onDisk describes a store whose checkpoints are folders in folder(). own are the other
// names of the store's.
func onDisk(t *testing.T, find func() string, own ...string) storetest.Subject {
	t.Helper()
	folder := func() string {
		dir := find()
		if !filepath.IsAbs(dir) { // or files are planted beside this one
			t.Fatalf("the store is in %q", dir)
		}
		return dir
	}
	foreign := map[string]string{"notes.txt": "mine", "round-5": "a file", "round-00000003x/manifest.json": "a copy", "best/model.safetensors": "a copy", "Round-00000002": "", "round-00000009": "a file of that name"}
	return storetest.Subject{
		Change: func(round uint64, name string, change func([]byte) []byte) {
			path := filepath.Join(folder(), checkpoint.RoundName(round), name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if b = change(b); b == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		Plant: func() func() {
			for name, text := range foreign {
				path := filepath.Join(folder(), name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return func() {
				for name, text := range foreign {
					if b, err := os.ReadFile(filepath.Join(folder(), name)); err != nil || string(b) != text {
						t.Errorf("%s holds %q, %v", name, b, err)
					}
				}
			}
		},
		Stray: func() (stray []string) {
			items, err := os.ReadDir(folder())
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range items {
				if slices.Contains(own, item.Name()) {
					continue
				}
				files, _ := os.ReadDir(filepath.Join(folder(), item.Name()))
				if _, ok := checkpoint.ParseRoundName(item.Name()); !ok || len(files) != 3 {
					stray = append(stray, item.Name())
				}
			}
			return stray
		},
		Exclusive: exclusive(t),
	}
}

// exclusive reports whether folders can be locked on this system.
func exclusive(t *testing.T) bool {
	dir := t.TempDir()
	unlock, err := checkpoint.NewDisk(dir).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := checkpoint.NewDisk(dir).Lock(t.Context())
	if err == nil {
		_ = again()
	}
	_ = unlock()
	return err != nil
}
