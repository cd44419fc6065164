package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"loco/trainer/data"
	"loco/worker/config"
	"loco/worker/process"
)

// shards finds the shards that are meant and the tokenizer that they are of, and prepares
// them where they do not exist. A shard does not say its tokenizer: that of the default
// configuration is taken.
func (c *dataInspect) shards(ctx context.Context) (paths []string, tokenizer string, cleanup func(), err error) {
	cleanup = func() {}
	if isShard(c.Path) {
		return []string{c.Path}, config.Default().Data.Tokenizer, cleanup, nil
	}
	file, dir := c.Path, ""
	if info, err := os.Stat(c.Path); err == nil && info.IsDir() {
		file, dir = filepath.Join(c.Path, process.ConfigFile), filepath.Join(c.Path, "data")
	}
	cfg, err := config.Load(file, c.Set)
	if errors.Is(err, fs.ErrNotExist) {
		err = process.Usage(err)
	}
	if err != nil {
		return nil, "", nil, err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "loco-data-*"); err != nil {
			return nil, "", nil, err
		}
		cleanup = func() { os.RemoveAll(dir) }
	}
	set, err := data.Prepare(ctx, process.DataOptions(&cfg, dir))
	if err != nil {
		cleanup()
		return nil, "", nil, err
	}
	if !c.JSON {
		fmt.Printf("digest %s\n%s\nleft out: %+v\n", set.Digest, describeData(set), set.Skipped)
	}
	return []string{set.Train.Path, set.Heldout.Path}, set.Tokenizer, cleanup, nil
}

func (c *dataInspect) inspect(path, name string) error {
	tokenizer, err := data.TokenizerByName(name)
	if err != nil {
		return err
	}
	shard, err := data.Open(path)
	if err != nil {
		return err
	}
	defer shard.Close()
	const sampleTokens = 200
	info, err := data.Inspect(shard, tokenizer, c.Samples, sampleTokens)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(info)
	}
	fmt.Printf("\n%s\n%d tokens in %d documents; %d of %d tokens of the vocabulary occur; entropy %.3f nats per token\n", info.Path, info.Tokens, info.Documents, info.Used, info.Vocab, info.Entropy)
	for _, s := range info.Samples {
		fmt.Println(indent(strings.ToValidUTF8(s, "�")))
		fmt.Println("  --")
	}
	return nil
}

func describeData(set data.Set) string {
	return fmt.Sprintf("%s tokens of %d files to train on, %s of %d held out", process.FormatCount(float64(set.Train.Tokens)), set.Train.Files, process.FormatCount(float64(set.Heldout.Tokens)), set.Heldout.Files)
}
