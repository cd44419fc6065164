package checkpoint

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// formatSample is the state in testdata/format-1, which an earlier release wrote.
func formatSample(round uint64) *State {
	return &State{
		Round: round, Step: 20 * round, Tokens: 1<<40 + round, Worker: 3,
		Model:   []Vector{{"tok.weight", []int{2, 3}, []float32{1, -2, 0.5, float32(math.Copysign(0, -1)), float32(math.Inf(1)), math.Float32frombits(0x7fc12345)}}, {"norm", []int{1}, []float32{float32(round)}}},
		Vectors: []Vector{{"outer.momentum", []int{2}, []float32{0.25, -0.75}}, {"scalar", nil, []float32{3}}, {"empty", []int{0, 7}, nil}},
		Meta:    map[string]string{"run_id": "00ff", "quote": "\"<\n"},
	}
}

// Runs resume from what earlier releases wrote, and write the same bytes.
func TestFormat1(t *testing.T) {
	golden := filepath.Join("testdata", "format-1")
	got, path, skipped, err := newestIn(golden)
	if err != nil || len(skipped) > 0 || path != filepath.Join(golden, "round-00000008") {
		t.Fatal(path, skipped, err)
	}
	sameBits(t, got, formatSample(8))
	dir := t.TempDir()
	w := open(t, local{Dir: dir}, realFiles{})
	for _, round := range []uint64{7, 8} {
		if err := save(t, w, formatSample(round)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{modelFile, stateFile, manifestFile} {
			name = filepath.Join(RoundName(round), name)
			want, err := os.ReadFile(filepath.Join(golden, name))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: written\n%q\nwant\n%q (%v)", name, got, want, err)
			}
		}
	}
	// A checkpoint's folder may have any name.
	copied := filepath.Join(t.TempDir(), "best so far")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(golden, "round-00000008"))); err != nil {
		t.Fatal(err)
	}
	if got, err = Load(copied); err != nil {
		t.Fatal(err)
	}
	sameBits(t, got, formatSample(8))
	if m, err := Verify(copied); err != nil || m.Round != 8 || m.Bytes() != 400 {
		t.Errorf("Verify: %+v, %v", m, err)
	}
}

// The copies in memory of an earlier release are found where they are.
func TestFolderInMemory(t *testing.T) {
	want := filepath.FromSlash("/dev/shm/loco-c6c37f22b93aebe3-0123456789abcdef")
	if got := tmpfsFolder("/dev/shm", "/home/me/run/checkpoints/worker-0", "0123456789abcdef"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	shm, dir := memory(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := tmpfsFolder(shm, dir, "0123456789abcdef")
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("testdata", "format-1"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	got, path, skipped, err := newestOf(dir, shm)
	if err != nil || len(skipped) > 0 || path != filepath.Join(folder, "round-00000008") {
		t.Fatal(path, skipped, err)
	}
	sameBits(t, got, formatSample(8))
	// Others must not be able to write there.
	if err := os.Chmod(folder, 0o722); err != nil {
		t.Fatal(err)
	}
	if _, path, _, err := newestOf(dir, shm); err == nil {
		t.Errorf("a folder that others can write to is read: %s", path)
	}
	if rounds, err := NewTmpfs(shm, NewDisk(dir)).List(context.Background()); err != nil || len(rounds) > 0 {
		t.Errorf("%v, %v", rounds, err)
	}
}
