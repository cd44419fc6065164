//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// language writes a corpus that is the same on every machine and in every version: words
// drawn by frequency, each with a few words that like to follow it.
func language(t *testing.T, dir string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	words := make([]string, 300)
	for i := range words {
		for range 2 + rng.IntN(6) {
			words[i] += string(rune('a' + rng.IntN(26)*rng.IntN(26)/26))
		}
	}
	next := make([][4]int, len(words))
	for i := range next {
		for j := range next[i] {
			next[i][j] = rng.IntN(len(words)) * rng.IntN(len(words)) / len(words)
		}
	}
	for file := range 40 {
		var b strings.Builder
		for word := rng.IntN(len(words)); b.Len() < 20000; {
			b.WriteString(words[word])
			b.WriteByte(" \n"[min(1, rng.IntN(12)/11)])
			if word = next[word][rng.IntN(4)]; rng.IntN(10) == 0 {
				word = rng.IntN(len(words))
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.txt", file)), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Reference: DiLoCo, arXiv 2311.08105, table 2, and NoLoCo, arXiv 2506.10911, table 2:
// for the same tokens in all, data-parallel is best, DiLoCo and NoLoCo come close to it
// and each other, and all are better than a worker alone on its share.
func TestE2EStrategiesInTheOrderOfThePapers(t *testing.T) {
	needE2E(t)
	source, dir := t.TempDir(), t.TempDir()
	language(t, source)
	exp := filepath.Join(t.TempDir(), "exp.toml")
	text := `set = ["data.source=` + source + `", "data.heldout=0.1", "model.layers=1", "model.width=32", "model.heads=2", "model.kv_heads=1",
  "model.ffn=64", "model.context=32", "inner.batch=16", "inner.lr=5e-3", "inner.precision=fp32", "run.rounds=150", "run.eval_every=50", "run.eval_tokens=16384", "sync.inner_steps=20"]
[[variant]]
name = "ddp"
set = ["sync.strategy=ddp"]
[[variant]]
name = "diloco"
set = ["sync.outer_momentum=0.3"] # for a text that is learnt within a few rounds
[[variant]]
name = "noloco"
set = ["sync.strategy=noloco"]
[[variant]]
name = "alone"
set = ["sync.strategy=alone"]
`
	if err := os.WriteFile(exp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var rows []rowJSON
	out := loco(t, 0, "compare", exp, "--dir", dir, "--json")
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 4 {
		t.Fatalf("%v: %s", err, out)
	}
	loss := map[string]float64{}
	for _, r := range rows {
		loss[r.Variant] = r.HeldoutLoss
		t.Logf("%-7s held-out loss %.4f, %d tokens", r.Variant, r.HeldoutLoss, r.Tokens)
	}
	if loss["ddp"] > loss["diloco"] || loss["ddp"] > loss["noloco"] {
		t.Error("ddp is not the best")
	}
	if loss["diloco"] >= loss["alone"] || loss["noloco"] >= loss["alone"] {
		t.Error("the others did not help")
	}
	if gap := loss["noloco"]/loss["diloco"] - 1; gap > 0.05 || gap < -0.05 {
		t.Errorf("noloco's loss is %+.1f %% of diloco's", 100*gap)
	}
	for _, name := range []string{"results.csv", "curves.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := startLoco(t, "compare", exp, "--dir", dir)
	p.wait(0)
	if got := strings.Count(p.stdout.String(), ": reused"); got != 4 {
		t.Errorf("%d of 4 finished variants were reused", got)
	}
}
