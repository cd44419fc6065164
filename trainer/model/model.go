package model

import (
	"fmt"

	"loco/kernels"
)

// Model is a Llama in the memory of one device. All of its memory and every view
// of it is made at start; a training step allocates nothing. It is not safe for
// concurrent use.
//
// Shapes below: B sequences of T = Context positions, R = B·T rows, C = Width,
// F = FFN, V = Vocab, Q = (Heads + 2·KVHeads)·HeadDim.
type Model struct {
	cfg    Config
	dev    kernels.Device
	batch  int
	train  bool
	memory Memory

	params, grads  kernels.Buffer // (Parameters)
	first, second  kernels.Buffer // AdamW's moments, (Parameters)
	groups         [2]Group
	weights, dW    weights
	cos, sin       kernels.Buffer // (T, HeadDim/2)
	full           pass           // B sequences of T positions
	prefixes       []pass         // one sequence each, lengths ascending to T
	scratch        scratch
	head           head
	lastRow        []kernels.Buffer // the head's input, row by row, for Logits
	prompt         []int32          // (T), padded tokens of Logits
	logitsOfPrompt []float32        // (V)
}

// Group is a range of the arena that AdamW treats alike.
type Group struct {
	Params, Grads, First, Second kernels.Buffer
	Decay                        bool
}

// weights are views of an arena of parameters, or of one of gradients.
type weights struct {
	embed, head, norm kernels.Buffer // (V, C), (V, C), (C)
	blocks            []blockWeights
}

type blockWeights struct {
	norm1  kernels.Buffer // (C)
	qkv    kernels.Buffer // (Q, C)
	o      kernels.Buffer // (C, C)
	norm2  kernels.Buffer // (C)
	gateUp kernels.Buffer // (2F, C)
	down   kernels.Buffer // (C, F)
}

// New makes a model to train with microBatch sequences of Context tokens at a
// time. Parameters are zero until Upload. It fails when the configuration is not
// valid or the device has too little memory.
func New(dev kernels.Device, cfg Config, microBatch int) (*Model, error) {
	return newModel(dev, cfg, microBatch, true)
}

// NewInference makes a model without gradients, moments and kept activations: it
// evaluates and generates, and panics when it is asked to train.
func NewInference(dev kernels.Device, cfg Config, batch int) (*Model, error) {
	return newModel(dev, cfg, batch, false)
}

func newModel(dev kernels.Device, cfg Config, batch int, train bool) (*Model, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := cfg.validateBatch(batch); err != nil {
		return nil, err
	}
	a := &allocator{dev: dev}
	m := build(a, cfg, batch, train)
	if a.err != nil {
		return nil, a.err
	}
	m.view()
	cos, sin := cfg.ropeTables()
	dev.Upload(m.cos, cos)
	dev.Upload(m.sin, sin)
	return m, nil
}

// build takes the model's memory; with an allocator that only counts, Memory is
// all that is usable of the result.
func build(a *allocator, cfg Config, batch int, train bool) *Model {
	m := &Model{cfg: cfg, dev: a.dev, batch: batch, train: train}
	n := cfg.Parameters()
	m.params = a.floats(n)
	m.memory.Parameters = a.bytes
	if train {
		mark := a.bytes
		m.grads = a.floats(n)
		m.memory.Gradients = a.since(mark)
		m.first, m.second = a.floats(n), a.floats(n)
		m.memory.Moments = a.since(mark) - m.memory.Gradients
	}
	mark := a.bytes
	m.cos = a.floats(cfg.Context, cfg.HeadDim()/2)
	m.sin = a.floats(cfg.Context, cfg.HeadDim()/2)
	m.full = buildPass(a, cfg, batch, train)
	for seq := prefixMin; seq < cfg.Context; seq *= 2 {
		m.prefixes = append(m.prefixes, pass{shape: cfg.shape(1, seq), tokens: a.tokens(seq)})
	}
	m.prefixes = append(m.prefixes, pass{shape: cfg.shape(1, cfg.Context), tokens: a.tokens(cfg.Context)})
	if train {
		m.scratch = buildScratch(a, cfg, batch*cfg.Context)
	}
	m.memory.Activations = a.since(mark)
	mark = a.bytes
	m.head = buildHead(a, cfg, batch*cfg.Context, train)
	m.memory.Head = a.since(mark)
	return m
}

// view makes the views that the steps use.
func (m *Model) view() {
	m.weights = viewWeights(m.cfg, m.params)
	if m.train {
		m.dW = viewWeights(m.cfg, m.grads)
		m.groups = m.viewGroups()
	}
	m.head.view(m.cfg)
	for i := range m.prefixes {
		m.prefixes[i].borrow(&m.full, m.cfg)
	}
	m.lastRow = make([]kernels.Buffer, m.cfg.Context)
	for i := range m.lastRow {
		m.lastRow[i] = m.head.in.Slice(i*m.cfg.Width, (i+1)*m.cfg.Width)
	}
	m.prompt = make([]int32, m.cfg.Context)
	m.logitsOfPrompt = make([]float32, m.cfg.Vocab)
}

// viewWeights cuts an arena by the configuration's layout.
func viewWeights(cfg Config, arena kernels.Buffer) weights {
	at := make(map[string]Tensor)
	for _, t := range cfg.Layout() {
		at[t.Name] = t
	}
	// span is the view from the start of one tensor to the end of another.
	span := func(first, last string) kernels.Buffer {
		return arena.Slice(at[first].Offset, at[last].Offset+at[last].Len)
	}
	one := func(name string) kernels.Buffer { return span(name, name) }
	w := weights{embed: one("model.embed_tokens.weight"), norm: one("model.norm.weight")}
	w.head = w.embed
	if !cfg.Tied {
		w.head = one("lm_head.weight")
	}
	for i := range cfg.Layers {
		block := fmt.Sprintf("model.layers.%d.", i)
		w.blocks = append(w.blocks, blockWeights{
			norm1:  one(block + "input_layernorm.weight"),
			qkv:    span(block+"self_attn.q_proj.weight", block+"self_attn.v_proj.weight"),
			o:      one(block + "self_attn.o_proj.weight"),
			norm2:  one(block + "post_attention_layernorm.weight"),
			gateUp: span(block+"mlp.gate_proj.weight", block+"mlp.up_proj.weight"),
			down:   one(block + "mlp.down_proj.weight"),
		})
	}
	return w
}

func (m *Model) viewGroups() [2]Group {
	total := m.cfg.Parameters()
	decayed := total - int(m.cfg.normParameters())
	cut := func(lo, hi int, decay bool) Group {
		return Group{
			Params: m.params.Slice(lo, hi), Grads: m.grads.Slice(lo, hi),
			First: m.first.Slice(lo, hi), Second: m.second.Slice(lo, hi), Decay: decay,
		}
	}
	return [2]Group{cut(0, decayed, true), cut(decayed, total, false)}
}

// Config returns what the model was made with.
func (m *Model) Config() Config { return m.cfg }

// MicroBatch is the number of sequences of one Accumulate or Loss.
func (m *Model) MicroBatch() int { return m.batch }

// Rows is the number of tokens of one Accumulate or Loss: MicroBatch·Context.
func (m *Model) Rows() int { return m.batch * m.cfg.Context }

// Memory is what the model took on its device.
func (m *Model) Memory() Memory { return m.memory }

// Params is the parameter arena.
func (m *Model) Params() kernels.Buffer { return m.params }

// Grads is the gradient arena, laid out like Params; nil without training.
func (m *Model) Grads() kernels.Buffer { return m.grads }

// Moments are AdamW's first and second moments, laid out like Params, zero at
// start; nil without training.
func (m *Model) Moments() (first, second kernels.Buffer) { return m.first, m.second }

// Groups are the two ranges of the arena: matrices, which are decayed, and norms.
func (m *Model) Groups() [2]Group { return m.groups }

// Update applies one AdamW step from the accumulated gradient, without weight
// decay on norms.
func (m *Model) Update(step kernels.AdamWStep) {
	for _, g := range m.groups {
		s := step
		if !g.Decay {
			s.WeightDecay = 0
		}
		m.dev.AdamW(g.Params, g.Grads, g.First, g.Second, s)
	}
}

// ZeroGrad clears the accumulated gradient.
func (m *Model) ZeroGrad() { m.dev.Zero(m.grads) }

// Accumulate runs forward and backward over one micro-batch, adds to the gradient
// that of scale·Σ loss, and returns Σ loss over its tokens, in nats. With scale =
// 1/(tokens of the whole batch), the gradients of its micro-batches add up to that
// of the mean loss. inputs and targets hold Rows token ids below Vocab, sequence
// after sequence; a negative target is left out.
func (m *Model) Accumulate(inputs, targets []int32, scale float32) float64 {
	if !m.train {
		panic("model: Accumulate on a model made by NewInference")
	}
	m.upload(inputs, targets)
	m.forward(&m.full)
	loss := m.headForwardBackward(&m.full, scale)
	m.backward(&m.full)
	return loss
}

// Loss returns Σ loss over a micro-batch, in nats, and leaves the gradient alone.
func (m *Model) Loss(inputs, targets []int32) float64 {
	m.upload(inputs, targets)
	m.forward(&m.full)
	return m.headLoss(&m.full)
}

func (m *Model) upload(inputs, targets []int32) {
	if len(inputs) != m.Rows() || len(targets) != m.Rows() {
		panic(fmt.Sprintf("model: %d inputs and %d targets, micro-batch = %d of context = %d needs %d of each", len(inputs), len(targets), m.batch, m.cfg.Context, m.Rows()))
	}
	m.dev.UploadTokens(m.full.tokens, inputs)
	m.dev.UploadTokens(m.head.targets, targets)
}
