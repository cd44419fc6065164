package data

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Dir: "d", Heldout: 0.5, Extensions: []string{".go", "."}, Tokenizer: "bytes"}
	if tokenizer, err := good.validate(); err != nil || tokenizer != (Bytes{}) {
		t.Errorf("%v, %v", tokenizer, err)
	}
	for want, spoil := range map[string]func(o *Options){
		"data: no folder for shards was named":                                func(o *Options) { o.Dir = "" },
		"data: heldout = 0, allowed is a share above 0 and up to 0.5":         func(o *Options) { o.Heldout = 0 },
		"data: heldout = 0.5000001, allowed is a share above 0 and up to 0.5": func(o *Options) { o.Heldout = 0.5000001 },
		"data: heldout = NaN, allowed is a share above 0 and up to 0.5":       func(o *Options) { o.Heldout = math.NaN() },
		"data: max_bytes = -1, allowed are 0 (no bound) and more":             func(o *Options) { o.MaxBytes = -1 },
		"data: extension \"go\", it must start with a dot: \".go\"":           func(o *Options) { o.Extensions = []string{".c", "go"} },
		"data: extension \".a/b\", it must start with a dot: \".go\"":         func(o *Options) { o.Extensions = []string{".a/b"} },
		"data: extension \".a\\\\b\", it must start with a dot: \".go\"":      func(o *Options) { o.Extensions = []string{".a\\b"} },
		"data: tokenizer \"\": unknown, choose one of bytes":                  func(o *Options) { o.Tokenizer = "" },
		"data: extension \".a\\nb\", it must start with a dot: \".go\"":       func(o *Options) { o.Extensions = []string{".a\nb"} },
	} {
		o := good
		spoil(&o)
		if _, err := o.validate(); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// sized is a tree of files that nobody reads.
func sized(sizes ...int64) *tree {
	t := &tree{root: "/x"}
	for i, n := range sizes {
		t.entries = append(t.entries, entry{name: fmt.Sprintf("f%02d", i), size: n})
	}
	return t
}

func TestBoundTakesFilesByTheHashOfTheirName(t *testing.T) {
	all := sized(100, 1, 50, 0, 30, 30, 70, 20)
	order := slices.Clone(all.entries)
	slices.SortFunc(order, func(a, b entry) int { return cmp.Compare(fraction("sample", a.name), fraction("sample", b.name)) })
	for limit := int64(1); limit <= 305; limit++ {
		left, want := limit, map[string]bool{}
		for _, e := range order {
			if e.size <= left {
				left -= e.size
				want[e.name] = true
			}
		}
		tr := sized(100, 1, 50, 0, 30, 30, 70, 20)
		tr.bound(limit)
		var got []string
		for _, e := range tr.entries {
			got = append(got, e.name)
			if !want[e.name] {
				t.Errorf("limit %d: %s is taken", limit, e.name)
			}
		}
		if len(got) != len(want) || !slices.IsSorted(got) || tr.skipped.Sampled != 8-len(want) || tr.limit != math.MaxInt64 {
			t.Fatalf("limit %d: %v of %v, left out %+v", limit, got, want, tr.skipped)
		}
	}
	for _, limit := range []int64{0, 301} {
		tr := sized(100, 1, 50, 0, 30, 30, 70, 20)
		tr.bound(limit)
		if len(tr.entries) != 8 || tr.skipped.Sampled != 0 || tr.limit != math.MaxInt64 {
			t.Errorf("limit %d: %+v", limit, tr)
		}
	}
	one := sized(100)
	one.single = true
	one.bound(40)
	if one.limit != 40 || len(one.entries) != 1 || one.skipped.Sampled != 0 {
		t.Errorf("a single file: %+v", one)
	}
}

func TestFractionIsUniformAndPinned(t *testing.T) {
	if got := fraction("heldout", "a.go"); got != 0.6145221734658589 {
		t.Errorf("fraction %v", got)
	}
	below := 0
	for i := range 10_000 {
		f := fraction("sample", fmt.Sprint(i))
		if !(f >= 0 && f < 1) {
			t.Fatalf("fraction %v", f)
		}
		if f < 0.25 {
			below++
		}
	}
	if below < 2500-217 || below > 2500+217 { // five deviations
		t.Errorf("%d of 10000 are below 1/4", below)
	}
	if fraction("sample", "x") == fraction("heldout", "x") {
		t.Error("two purposes are one")
	}
}

func TestSplit(t *testing.T) {
	tr := sized(100, 11, 50, 1, 30, 30, 70, 20)
	held := 0
	for i, c := range tr.split(0.3) {
		want := tr.entries[i].size
		if fraction("heldout", tr.entries[i].name) < 0.3 {
			want = 0
			held++
		}
		if c.train != want || c.entry != tr.entries[i] {
			t.Errorf("%+v: trains on %d bytes, want %d", c.entry, c.train, want)
		}
	}
	if held == 0 || held == 8 {
		t.Fatalf("%d of 8 files are held out: the test is blind", held)
	}
	// A share that holds out no file, or every one.
	all := sized(9, 10, 11)
	for i, e := range all.entries {
		all.entries[i].name = e.name + "/x"
	}
	least, most := 1.0, 0.0
	for _, e := range all.entries {
		least, most = min(least, fraction("heldout", e.name)), max(most, fraction("heldout", e.name))
	}
	for _, share := range []float64{least, math.Nextafter(most, 2)} {
		for i, c := range all.split(share) {
			if want := all.entries[i].size - int64(share*float64(all.entries[i].size)); c.train != want {
				t.Errorf("share %v: %+v trains on %d bytes, want %d", share, c.entry, c.train, want)
			}
		}
	}
	if got := all.split(math.Nextafter(least, 2)); !slices.ContainsFunc(got, func(c cut) bool { return c.train == 0 }) {
		t.Errorf("a share just above the least fraction: %+v", got)
	}
}

func TestScanReportsProgress(t *testing.T) {
	root := corpus(t, map[string]string{"a": "xx", "b": "\x00yy", "c": "zzzz€", "d": "// Code generated x. DO NOT EDIT."})
	tr, err := walk(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	tr.bound(0)
	var told [][2]int64
	if err := tr.scan(t.Context(), func(read, total int64) { told = append(told, [2]int64{read, total}) }); err != nil {
		t.Fatal(err)
	}
	if want := [][2]int64{{2, 45}, {5, 45}, {12, 45}, {45, 45}}; !slices.Equal(told, want) {
		t.Errorf("progress %v, want %v", told, want)
	}
	if want := []entry{{name: "a", size: 2}, {name: "c", size: 7}}; !slices.Equal(tr.entries, want) || tr.skipped != (Skipped{Binary: 1, Generated: 1}) {
		t.Errorf("files %+v, left out %+v", tr.entries, tr.skipped)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.scan(ended, nil); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "data: reading the source was stopped: ") {
		t.Errorf("ended: error %v", err)
	}
	if _, err := tr.write(ended, &Options{Dir: t.TempDir(), Heldout: 0.5}, Bytes{}); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "data: writing shards was stopped: ") {
		t.Errorf("ended: error %v", err)
	}
	if _, err := tr.write(t.Context(), &Options{Dir: root + "/none", Heldout: 0.5}, Bytes{}); err == nil || !strings.HasPrefix(err.Error(), "data: create shard: ") {
		t.Errorf("no folder: error %v", err)
	}
	if err := os.Remove(filepath.Join(root, "a")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := tr.write(t.Context(), &Options{Dir: dir, Heldout: 0.5}, Bytes{}); err == nil || !strings.HasPrefix(err.Error(), "data: source: open ") {
		t.Errorf("a file that went away: error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// A shard or a manifest that cannot get its name is an error, and leaves no other file.
func TestPrepareReportsNamesThatAreTaken(t *testing.T) {
	root, dir := corpus(t, many(20)), t.TempDir()
	o := Options{Source: root, Dir: dir, Heldout: 0.2, Tokenizer: "bytes"}
	set := prepare(t, o)
	manifests, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(manifests) != 1 {
		t.Fatal(manifests, err)
	}
	for path, want := range map[string]string{
		set.Train.Path: "data: write shard " + set.Train.Path, set.Heldout.Path: "data: write shard " + set.Heldout.Path,
		manifests[0]: "data: write manifest " + manifests[0],
	} {
		o.Dir = t.TempDir()
		taken := filepath.Join(o.Dir, filepath.Base(path))
		if err := os.MkdirAll(filepath.Join(taken, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
		want = strings.ReplaceAll(want, dir, o.Dir)
		if _, err := Prepare(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
		left, err := os.ReadDir(o.Dir)
		for _, e := range left {
			if strings.HasPrefix(e.Name(), ".") {
				t.Errorf("%s is left, %v", e.Name(), err)
			}
		}
	}
}

func TestManifestIsReused(t *testing.T) {
	root, dir := corpus(t, many(20)), t.TempDir()
	o := Options{Source: root, Dir: dir, Heldout: 0.2, Tokenizer: "bytes"}
	set := prepare(t, o)
	manifests, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(manifests) != 1 {
		t.Fatal(manifests, err)
	}
	text, err := os.ReadFile(manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(manifests[0])
	if err != nil || info.Mode().Perm() != 0o644 || strings.Contains(string(text), `"reused": true`) || text[len(text)-1] != '\n' {
		t.Errorf("manifest %s of mode %v, %v", text, info.Mode(), err)
	}
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"as it is":       {string(text), true},
		"long":           {string(text) + strings.Repeat(" ", manifestMax), true},
		"just too long":  {strings.Repeat(" ", manifestMax-len(text)+2) + string(text), false},
		"of the limit":   {strings.Repeat(" ", manifestMax-len(text)) + string(text), true},
		"another vocab":  {strings.Replace(string(text), `"vocab": 256`, `"vocab": 255`, 1), false},
		"other tokens":   {strings.Replace(string(text), fmt.Sprintf(`"tokens": %d`, set.Train.Tokens), fmt.Sprintf(`"tokens": %d`, set.Train.Tokens+1), 1), false},
		"other heldout":  {strings.Replace(string(text), fmt.Sprintf(`"tokens": %d`, set.Heldout.Tokens), fmt.Sprintf(`"tokens": %d`, set.Heldout.Tokens-1), 1), false},
		"no shard":       {strings.Replace(string(text), ".heldout.shard", ".none.shard", 1), false},
		"not a manifest": {"[]", false},
		"empty":          {"", false},
	} {
		if err := os.WriteFile(manifests[0], []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, ok := reuse(manifests[0])
		if ok != c.want || ok != got.Reused {
			t.Errorf("%s: reused %v, %v; want %v", name, ok, got.Reused, c.want)
		}
		got.Reused = false
		if ok && got != set || !ok && got != (Set{}) {
			t.Errorf("%s: %+v, want %+v", name, got, set)
		}
	}
	if err := os.WriteFile(manifests[0], text, 0o644); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	o.Dir = moved
	if again := prepare(t, o); !again.Reused || filepath.Dir(again.Train.Path) != moved || filepath.Dir(again.Heldout.Path) != moved {
		t.Errorf("in a folder that moved: %+v", again)
	}
}

func TestKeyDependsOnEverything(t *testing.T) {
	base := func() (*tree, *Options) { return sized(1, 2), &Options{Heldout: 0.1, Extensions: []string{".go"}} }
	seen := map[string]string{}
	for name, change := range map[string]func(tr *tree, o *Options){
		"nothing": func(*tree, *Options) {}, "root": func(tr *tree, _ *Options) { tr.root = "/y" },
		"name": func(tr *tree, _ *Options) { tr.entries[1].name = "f1" }, "size": func(tr *tree, _ *Options) { tr.entries[1].size++ },
		"time": func(tr *tree, _ *Options) { tr.entries[1].modified++ }, "files": func(tr *tree, _ *Options) { tr.entries = tr.entries[:1] },
		"heldout": func(_ *tree, o *Options) { o.Heldout = 0.2 }, "max": func(_ *tree, o *Options) { o.MaxBytes = 1 },
		"extensions": func(_ *tree, o *Options) { o.Extensions = nil },
	} {
		tr, o := base()
		change(tr, o)
		key := tr.key(o, Bytes{})
		if was, ok := seen[key]; ok || len(key) != digestChars {
			t.Errorf("%s has the key %s of %q", name, key, was)
		}
		seen[key] = name
	}
}

func ExamplePrepare() {
	dir, err := os.MkdirTemp("", "loco-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("all work and no play\n", 50)), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	set, err := Prepare(context.Background(), Options{Source: text, Dir: filepath.Join(dir, "data"), Heldout: 0.1, Tokenizer: "bytes"})
	if err != nil {
		fmt.Println(err)
		return
	}
	shard, err := set.Train.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer shard.Close()
	sampler, err := NewSampler(shard, SamplerConfig{Seed: 1, Workers: 1, Batch: 1, Context: 21})
	if err != nil {
		fmt.Println(err)
		return
	}
	inputs, targets := make([]int32, 21), make([]int32, 21)
	if err := sampler.Batch(0, inputs, targets); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(set.Train.Tokens, set.Heldout.Tokens, inputs[1] == targets[0])
	// Output: 946 106 true
}
