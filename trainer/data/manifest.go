package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"loco/checkpoint/atomicfile"
)

// manifestMax bounds a manifest, which has a few hundred bytes.
const manifestMax = 1 << 16

// key names the manifest of a source whose files have these names, sizes and
// times: it changes whenever the result might.
func (t *tree) key(o *Options, tokenizer Tokenizer) string {
	h := sha256.New()
	h.Write(digestOf(o, tokenizer))
	fmt.Fprintf(h, "root %q\n", t.root)
	for _, e := range t.entries {
		fmt.Fprintf(h, "%q %d %d\n", e.name, e.size, e.modified)
	}
	return hex.EncodeToString(h.Sum(nil)[:digestChars/2])
}

// reuse returns the set that a manifest remembers, unless a shard of it is gone or
// damaged: then it is prepared again. Shards are looked for beside the manifest, so
// a folder may be moved.
func reuse(manifest string) (Set, bool) {
	f, err := os.Open(manifest)
	if err != nil {
		return Set{}, false
	}
	raw, err := io.ReadAll(io.LimitReader(f, manifestMax))
	if errors.Join(err, f.Close()) != nil {
		return Set{}, false
	}
	var set Set
	if err := json.Unmarshal(raw, &set); err != nil {
		return Set{}, false
	}
	for _, s := range []*Split{&set.Train, &set.Heldout} {
		s.Path = filepath.Join(filepath.Dir(manifest), filepath.Base(s.Path))
		shard, err := s.Open()
		if err != nil {
			return Set{}, false
		}
		same := shard.Len() == s.Tokens && shard.Vocab == set.Vocab
		if shard.Close() != nil || !same {
			return Set{}, false
		}
	}
	set.Reused = true
	return set, true
}

// sharedMode lets other users of the machine read prepared data.
const sharedMode = 0o644

// remember writes a manifest.
func remember(manifest string, set Set) error {
	raw, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return fmt.Errorf("data: manifest: %w", err)
	}
	if err := atomicfile.WriteFile(manifest, append(raw, '\n'), sharedMode); err != nil {
		return fmt.Errorf("data: write manifest %s: %w", manifest, err)
	}
	return nil
}
