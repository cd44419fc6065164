package model

import (
	"math"
	"strings"
	"testing"
)

func TestValidateNamesFieldValueAndWhatIsAllowed(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Vocab = 1 }, "vocab = 1, allowed are 2 to"},
		{func(c *Config) { c.Layers = 0 }, "layers = 0"},
		{func(c *Config) { c.Layers = -3 }, "layers = -3"},
		{func(c *Config) { c.Width = 1 << 30 }, "width = 1073741824"},
		{func(c *Config) { c.Heads = 3 }, "heads = 3 does not divide width = 128"},
		{func(c *Config) { c.Heads = 0 }, "heads = 0"},
		{func(c *Config) { c.KVHeads = 3 }, "kv_heads = 3 does not divide heads = 4"},
		{func(c *Config) { c.KVHeads = 8 }, "kv_heads = 8, allowed are 1 to 4"},
		{func(c *Config) { c.Heads, c.KVHeads = 128, 1 }, "head dimension 1, which must be even"},
		{func(c *Config) { c.FFN = 0 }, "ffn = 0"},
		{func(c *Config) { c.Context = 1 << 40 }, "context ="},
		{func(c *Config) { c.RopeTheta = math.NaN() }, "rope_theta = NaN"},
		{func(c *Config) { c.NormEps = 0 }, "norm_eps = 0"},
		{func(c *Config) { c.InitStd = math.Inf(1) }, "init_std = +Inf"},
		{func(c *Config) { c.Layers, c.Width, c.FFN = layersMax, widthMax, ffnMax }, "parameters, at most"},
	} {
		cfg := Default()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	for _, batch := range []int{0, -1, microBatchMax + 1} {
		if _, err := New(nil, Default(), batch); err == nil || !strings.Contains(err.Error(), "micro-batch") {
			t.Errorf("micro-batch %d: error %v", batch, err)
		}
	}
}

func TestLayoutTilesTheArena(t *testing.T) {
	for _, tied := range []bool{true, false} {
		cfg := small(tied)
		offset, decayEnded := 0, false
		seen := map[string]bool{}
		for _, tensor := range cfg.Layout() {
			if tensor.Offset != offset || seen[tensor.Name] {
				t.Errorf("%s: offset %d, want %d, once", tensor.Name, tensor.Offset, offset)
			}
			n := 1
			for _, s := range tensor.Shape {
				n *= s
			}
			if n != tensor.Len {
				t.Errorf("%s: %d values of shape %v", tensor.Name, tensor.Len, tensor.Shape)
			}
			if tensor.Decay == strings.Contains(tensor.Name, "norm") || decayEnded && tensor.Decay {
				t.Errorf("%s: decay = %v; norms, and only they, come last without it", tensor.Name, tensor.Decay)
			}
			decayEnded = !tensor.Decay
			seen[tensor.Name] = true
			offset += n
		}
		if offset != cfg.Parameters() {
			t.Errorf("tied=%v: tensors hold %d values, Parameters is %d", tied, offset, cfg.Parameters())
		}
		if seen["lm_head.weight"] == tied {
			t.Errorf("tied=%v: lm_head.weight present: %v", tied, !tied)
		}
	}
}

// Meta's count for Llama 3 8B is 8,030,261,248.
func TestParametersOfLlama3(t *testing.T) {
	cfg := Config{Vocab: 128256, Layers: 32, Width: 4096, Heads: 32, KVHeads: 8, FFN: 14336, Context: 8192, RopeTheta: 500000, NormEps: 1e-5, InitStd: 0.02}
	if got := cfg.Parameters(); got != 8030261248 {
		t.Errorf("%d parameters, want 8030261248", got)
	}
	// 6N without the embedding, and attention over half of 8192 positions.
	want := 6*(8030261248.0-128256*4096-65*4096) + 6*32*8193*4096
	if got := cfg.FLOPsPerToken(8192); got != want {
		t.Errorf("%v FLOPs a token, want %v", got, want)
	}
}
