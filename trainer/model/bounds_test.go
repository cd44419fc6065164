package model

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// least is a valid configuration in which every number may reach its ends.
func least() Config {
	return Config{Vocab: 2, Layers: 1, Width: 2, Heads: 1, KVHeads: 1, FFN: 1, Context: 1, RopeTheta: 1, NormEps: 1e-30, InitStd: 1e-30}
}

// Both ends of every range are accepted, and what lies beyond is refused by name.
func TestEndsOfEveryRange(t *testing.T) {
	for _, c := range []struct {
		name   string
		lo, hi int
		set    func(c *Config, v int)
	}{
		{"vocab", 2, 1 << 24, func(c *Config, v int) { c.Vocab = v }},
		{"layers", 1, 1 << 10, func(c *Config, v int) { c.Layers = v }},
		{"width", 2, 1 << 17, func(c *Config, v int) { c.Width = v }},
		{"heads", 1, 64, func(c *Config, v int) { c.Width, c.Heads = 64, v }},
		{"kv_heads", 1, 32, func(c *Config, v int) { c.Width, c.Heads, c.KVHeads = 64, 32, v }},
		{"ffn", 1, 1 << 20, func(c *Config, v int) { c.FFN = v }},
		{"context", 1, 1 << 20, func(c *Config, v int) { c.Context = v }},
	} {
		for v, ok := range map[int]bool{c.lo: true, c.hi: true, c.lo - 1: false, c.hi + 1: false} {
			cfg := least()
			c.set(&cfg, v)
			err := cfg.Validate()
			if ok && c.name == "heads" && v == c.hi { // in range, and another rule
				if err == nil || !strings.Contains(err.Error(), "width = 64 over heads = 64 gives head dimension 1, which must be even") {
					t.Errorf("error %v", err)
				}
				continue
			}
			want := fmt.Sprintf("model: %s = %d, allowed are %d to %d", c.name, v, c.lo, c.hi)
			if ok && err != nil || !ok && (err == nil || err.Error() != want) {
				t.Errorf("%s = %d: error %v, valid: %v", c.name, v, err, ok)
			}
		}
	}
	for _, c := range []struct {
		name   string
		lo, hi float64
		set    func(c *Config, v float64)
	}{
		{"rope_theta", 1, 1e12, func(c *Config, v float64) { c.RopeTheta = v }},
		{"norm_eps", 1e-30, 0.1, func(c *Config, v float64) { c.NormEps = v }},
		{"init_std", 1e-30, 10, func(c *Config, v float64) { c.InitStd = v }},
	} {
		for v, ok := range map[float64]bool{c.lo: true, c.hi: true, math.Nextafter(c.lo, 0): false, math.Nextafter(c.hi, 1e300): false, math.Inf(-1): false} {
			cfg := least()
			c.set(&cfg, v)
			want := fmt.Sprintf("model: %s = %v, allowed are %v to %v", c.name, v, c.lo, c.hi)
			if err := cfg.Validate(); ok && err != nil || !ok && (err == nil || err.Error() != want) {
				t.Errorf("%s = %v: error %v, valid: %v", c.name, v, err, ok)
			}
		}
	}
}

func TestParametersHaveALimit(t *testing.T) {
	cfg := least()
	cfg.Layers, cfg.Width, cfg.FFN, cfg.Vocab = 16, 1<<17, 2, 1<<17
	// 16 blocks of 4·2^34 + 6·2^17 values, two tables of 2^34 and 33 norms: just over 2^40.
	if n := cfg.Parameters(); n != 1<<40+2<<34+16*6<<17+33<<17 {
		t.Fatalf("%d parameters", n)
	}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("model: %d parameters, at most 1099511627776 are allowed: lower layers, width, ffn or vocab", cfg.Parameters())) {
		t.Errorf("error %v", err)
	}
	cfg.Layers, cfg.Tied = 15, true
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestMicroBatchHasLimits(t *testing.T) {
	cfg := least()
	for _, c := range []struct {
		context, batch int
		want           string
	}{
		{1, 1, ""}, {1, 1 << 16, ""}, {1, 0, "model: micro-batch = 0, allowed are 1 to 65536"}, {1, 1<<16 + 1, "model: micro-batch = 65537, allowed are 1 to 65536"},
		{1 << 20, 16, ""}, {1 << 20, 17, "model: micro-batch = 17 of context = 1048576 is 17825792 positions, at most 16777216 are allowed: train several micro-batches a step instead"},
	} {
		cfg.Context = c.context
		if err := cfg.validateBatch(c.batch); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("context %d, micro-batch %d: error %v, want %q", c.context, c.batch, err, c.want)
		}
	}
}

func TestDefaultIsPinned(t *testing.T) {
	want := Config{Vocab: 256, Layers: 4, Width: 128, Heads: 4, KVHeads: 2, FFN: 384, Context: 128, RopeTheta: 10000, NormEps: 1e-5, InitStd: 0.02, Tied: true}
	if got := Default(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestShapes(t *testing.T) {
	cfg := small(true)
	if cfg.HeadDim() != 2 || cfg.qkvWidth() != 16 {
		t.Errorf("head dimension %d, packed projections of %d", cfg.HeadDim(), cfg.qkvWidth())
	}
	s := cfg.shape(3, 5)
	if s.Batch != 3 || s.Seq != 5 || s.Heads != 4 || s.KVHeads != 2 || s.HeadDim != 2 {
		t.Errorf("%+v", s)
	}
	// By hand: qkv 16·8, o 8·8, gate, up and down 3·10·8 in each of 2 blocks; table 13·8; 5 norms of 8.
	if got := cfg.Parameters(); got != 2*(128+64+240)+104+40 {
		t.Errorf("%d parameters", got)
	}
	cfg.Tied = false
	if got := cfg.Parameters(); got != 2*(128+64+240)+2*104+40 {
		t.Errorf("%d parameters with a head of its own", got)
	}
	if got, want := cfg.FLOPsPerToken(5), 6.0*(2*432+104)+2*6*6*8; got != want {
		t.Errorf("%v FLOPs a token, want %v", got, want)
	}
}

func TestLayoutIsPinned(t *testing.T) {
	var got []string
	for _, x := range small(false).Layout() {
		got = append(got, fmt.Sprint(x.Name, x.Shape, " ", x.Offset))
	}
	want := []string{
		"model.embed_tokens.weight[13 8] 0",
		"model.layers.0.self_attn.q_proj.weight[8 8] 104", "model.layers.0.self_attn.k_proj.weight[4 8] 168", "model.layers.0.self_attn.v_proj.weight[4 8] 200",
		"model.layers.0.self_attn.o_proj.weight[8 8] 232", "model.layers.0.mlp.gate_proj.weight[10 8] 296", "model.layers.0.mlp.up_proj.weight[10 8] 376", "model.layers.0.mlp.down_proj.weight[8 10] 456",
		"model.layers.1.self_attn.q_proj.weight[8 8] 536", "model.layers.1.self_attn.k_proj.weight[4 8] 600", "model.layers.1.self_attn.v_proj.weight[4 8] 632",
		"model.layers.1.self_attn.o_proj.weight[8 8] 664", "model.layers.1.mlp.gate_proj.weight[10 8] 728", "model.layers.1.mlp.up_proj.weight[10 8] 808", "model.layers.1.mlp.down_proj.weight[8 10] 888",
		"lm_head.weight[13 8] 968",
		"model.layers.0.input_layernorm.weight[8] 1072", "model.layers.0.post_attention_layernorm.weight[8] 1080",
		"model.layers.1.input_layernorm.weight[8] 1088", "model.layers.1.post_attention_layernorm.weight[8] 1096", "model.norm.weight[8] 1104",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("layout\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestChunksOfTheHead(t *testing.T) {
	for _, c := range []struct{ vocab, rows, want int }{
		{256, 1 << 20, 2048}, {32768, 1 << 20, 2048}, {32769, 1 << 20, 1920}, {128256, 1 << 20, 512}, {300_000, 1 << 20, 128}, {400_000, 1 << 20, 128},
		{520_000, 1 << 20, 128}, {524_289, 1 << 20, 127}, {1 << 20, 1 << 20, 64}, {1 << 24, 1 << 20, 64}, {256, 100, 100}, {256, 2048, 2048}, {256, 2049, 2048}, {1 << 24, 63, 63},
	} {
		if got := (Config{Vocab: c.vocab}).chunkRows(c.rows); got != c.want {
			t.Errorf("vocabulary %d, %d rows: chunks of %d, want %d", c.vocab, c.rows, got, c.want)
		}
	}
}

// The parts of what a model takes, by hand.
func TestMemoryByHand(t *testing.T) {
	cfg := small(false) // 2 blocks, C = 8, Q = 16, F = 10, V = 13, T = 5
	cfg.Context = 20    // prefixes of 16 and 20
	n := int64(cfg.Parameters())
	const r = 3 * 20 // rows
	tables := int64(2 * 20 * 1)
	tokens := int64(r + 16 + 20)
	streams := func(k int64) int64 { return k * r * 8 }
	block := int64(r + r*8 + r*16 + r*8 + 3*4*20 + r*8 + r + r*8 + r*20 + r*10)
	scratch := int64(r*8 + r*8 + r*16 + 3*4*20)
	head := int64(r*8 + r + r + r + r*13) // in, rstd, targets, losses, logits of one chunk
	operands := int64(r*8 + r*16 + r*8 + r*8 + r*20 + r*10)
	for name, c := range map[string]struct {
		got  Memory
		want Memory
	}{
		"train": {cfg.Memory(3), Memory{Parameters: 4 * n, Gradients: 4 * n, Moments: 8 * n, Activations: 4 * (tables + tokens + streams(3) + 2*block + scratch), Head: 4 * (head + r*8),
			operands: 4 * (2*operands + r*8 + r*16 + r*8 + r*8), both: 4 * (r*8 + r*13)}},
		"infer": {cfg.InferenceMemory(3), Memory{Parameters: 4 * n, Activations: 4 * (tables + tokens + streams(1) + block), Head: 4 * head,
			operands: 4 * (operands + r*8), both: 4 * r * 13}},
	} {
		got := c.got
		if got.Packed <= 0 {
			t.Errorf("%s: %d bytes of packed weights", name, got.Packed)
		}
		if got.Total() != got.Parameters+got.Packed+got.Gradients+got.Moments+got.Activations+got.Head {
			t.Errorf("%s: total %d of %+v", name, got.Total(), got)
		}
		if want := c.want.Total() - c.want.operands/2 + c.want.both/2 + c.want.Parameters/2; got.Halves() != want {
			t.Errorf("%s: %d bytes as halves, want %d", name, got.Halves(), want)
		}
		got.Packed = 0
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	cfg.Checkpoint = true
	if got, want := cfg.Memory(3).Activations, 4*(tables+tokens+streams(3)+block+scratch); got != want {
		t.Errorf("with checkpointing activations take %d bytes, want %d", got, want)
	}
}
