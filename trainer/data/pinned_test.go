package data

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A run's seed promises the same batches on every machine and in every version: what
// this file pins may not change.

func TestPermutationIsPinned(t *testing.T) {
	if got := hash(1, 2, 3); got != 0x558194cb6fe3bc54 {
		t.Errorf("hash is %#x", got)
	}
	if hash() != 0 || hash(0) == 0 || hash(1, 2) == hash(2, 1) {
		t.Error("hash does not depend on all that it is given")
	}
	for _, c := range []struct {
		n    uint64
		half uint
	}{{1, 1}, {4, 1}, {5, 2}, {16, 2}, {17, 3}, {1 << 62, 31}, {1<<62 + 1, 32}, {1 << 63, 32}} {
		if got := newPermutation(c.n, 1).half; got != c.half {
			t.Errorf("n = %d: halves of %d bits, want %d", c.n, got, c.half)
		}
	}
	var got []uint64
	p := newPermutation(1000, 42)
	for i := range uint64(8) {
		got = append(got, p.at(i))
	}
	big := newPermutation(1<<48+3, 43)
	got = append(got, big.at(0), big.at(1<<48+2))
	if want := []uint64{923, 590, 643, 981, 126, 568, 67, 106, 141044106417314, 6208314061586}; !slices.Equal(got, want) {
		t.Errorf("permuted to %v, want %v", got, want)
	}
}

func TestWindowsArePinned(t *testing.T) {
	for _, c := range []struct {
		worker int
		first  uint64
		want   []int32
	}{
		{0, 0, []int32{204, 108, 172, 300, 68, 244}},
		{1, 0, []int32{308, 380, 124, 28, 100, 12}},
		{1, 5, []int32{348, 20, 52, 220, 252, 156}}, // the second epoch
		{2, 0, []int32{211, 3, 19, 251, 371, 75}},   // beyond the plan
		{3, 1000, []int32{334, 94, 166, 182, 22, 318}},
	} {
		s := newSampler(t, counted(400), SamplerConfig{Seed: 9, Worker: c.worker, Workers: 2, Batch: 3, Context: 8})
		if got := starts(t, s, c.first, 2); !slices.Equal(got, c.want) {
			t.Errorf("worker %d at step %d: windows %v, want %v", c.worker, c.first, got, c.want)
		}
	}
}

// The digest of a corpus is part of a run's identity, and the manifest's key finds what is
// prepared.
func TestDigestIsPinned(t *testing.T) {
	root := corpus(t, many(7))
	dir := t.TempDir()
	for _, c := range []struct {
		Options
		want string
	}{
		{Options{Source: root}, "c7b606b678e44ccacb9e56eca2076d5d1930b98487fc872ef18582f38c649efe"},
		{Options{Source: root, Heldout: 0.25, MaxBytes: 120, Extensions: []string{".go", ".c"}}, "d71f728a48ffab2254944dca8229316961fa662d07a0822323fc03e496fdf3fe"},
		{Options{Source: filepath.Join(root, "p0", "f00.go"), Heldout: 0.5}, "0c00fe54dc156b56d61cd8dafc4698d0bad592c082e9ffb9f9ffe59910b73828"},
	} {
		c.Dir = dir
		set := prepare(t, c.Options)
		if set.Digest != c.want {
			t.Errorf("digest %s, want %s", set.Digest, c.want)
		}
		for i, s := range []Split{set.Train, set.Heldout} {
			want := filepath.Join(dir, set.Digest[:32]+[]string{".train.shard", ".heldout.shard"}[i])
			if info, err := os.Stat(s.Path); s.Path != want || err != nil || info.Size() != headerBytes+s.Tokens || info.Mode().Perm() != 0o644 {
				t.Errorf("%s, want %s: %v", s.Path, want, err)
			}
		}
	}
	tr := &tree{root: "/a b", entries: []entry{{"x", 1, 2}, {"y/z", 3, 4}}}
	if got := tr.key(&Options{Heldout: 0.1, Extensions: []string{".go"}}, Bytes{}); got != "358bb32afb5128e150c4d0043b6fff7b" {
		t.Errorf("key %s", got)
	}
}
