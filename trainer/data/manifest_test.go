package data

import (
	"os"
	"path/filepath"
	"testing"
)

// Whatever a manifest says, no file outside its folder is opened and nothing is
// reused that is not a whole shard of the length it names.
func FuzzReuse(f *testing.F) {
	dir := f.TempDir()
	shard := writeShard(f, 256, ramp(10, 256))
	raw, err := os.ReadFile(shard)
	if err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.shard"), raw, 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"vocab": 256, "train": {"path": "x.shard", "tokens": 10}, "heldout": {"path": "/a/x.shard", "tokens": 10}}`))
	f.Add([]byte(`{"train": {"path": "../../x.shard"}, "heldout": {}}`))
	f.Add([]byte(`[`))
	manifest := filepath.Join(dir, "m.json")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(manifest, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		set, ok := reuse(manifest)
		if !ok {
			return
		}
		for _, s := range []Split{set.Train, set.Heldout} {
			if filepath.Dir(s.Path) != dir || s.Tokens != 10 || set.Vocab != 256 {
				t.Errorf("%q gives %+v", raw, set)
			}
		}
	})
}
