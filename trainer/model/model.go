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
	weights        weights
	dW             grads
	matrices       []matrix       // what UpdateWeight updates
	vectors        []vector       // what AdamW does: norms, and a table that is no head
	begun          bool           // the gradients of matrices hold something to add to
	cos, sin       kernels.Buffer // (T, HeadDim/2)
	full           pass           // B sequences of T positions
	prefixes       []pass         // one sequence each, lengths ascending to T
	scratch        scratch
	head           head
	lastRow        []kernels.Buffer // the head's input, row by row, for Logits
	prompt         []int32          // (T), padded tokens of Logits
	logitsOfPrompt []float32        // (V)
}

// A vector is a range of the arena that AdamW updates.
type vector struct {
	params, grads, first, second kernels.Buffer
	decay                        bool
}

// A matrix is the weight of a linear layer, with its gradient and moments.
type matrix struct {
	weight               kernels.Weight
	grads, first, second kernels.Buffer
}

// weights are views of the parameters.
type weights struct {
	embed, norm kernels.Buffer // (V, C), (C)
	head        kernels.Weight // (V, C)
	blocks      []blockWeights
}

type blockWeights struct {
	norm1  kernels.Buffer // (C)
	qkv    kernels.Weight // (Q, C)
	o      kernels.Weight // (C, C)
	norm2  kernels.Buffer // (C)
	gateUp kernels.Weight // (2F, C)
	down   kernels.Weight // (C, F)
}

// grads are views of the gradients, of the same shapes.
type grads struct {
	embed, head, norm kernels.Buffer
	blocks            []blockGrads
}

type blockGrads struct{ norm1, qkv, o, norm2, gateUp, down kernels.Buffer }

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
	if err := m.view(); err != nil {
		return nil, err
	}
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
	cfg.linears(func(_, _ string, out, in int) { m.memory.Packed += kernels.WeightBytes(out, in, train) })
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
	m.memory.operands, m.memory.both = a.operands, a.both
	return m
}

// view makes the views that the steps use.
func (m *Model) view() error {
	if err := m.viewWeights(); err != nil {
		return err
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
	return nil
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

// Update applies one AdamW step from the accumulated gradient, without weight
// decay on norms.
func (m *Model) Update(step kernels.AdamWStep) {
	for i := range m.matrices {
		x := &m.matrices[i]
		m.dev.UpdateWeight(x.weight, x.grads, x.first, x.second, step)
	}
	for _, v := range m.vectors {
		s := step
		if !v.decay {
			s.WeightDecay = 0
		}
		m.dev.AdamW(v.params, v.grads, v.first, v.second, s)
	}
}

// ZeroGrad makes the next Accumulate begin a gradient: what it adds to is cleared, what
// it computes whole it then replaces.
func (m *Model) ZeroGrad() {
	for _, v := range m.vectors {
		m.dev.Zero(v.grads)
	}
	m.begun = false
}

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
	m.headForwardBackward(&m.full, scale)
	m.backward(&m.full)
	m.begun = true
	return m.dev.Sum(m.head.losses) // last: it waits for the device
}

// Rehearse runs a step that changes nothing: of no target, at rate 0. A device that takes memory,
// or loads what it runs, when it is first used has then done so. Moments must be zero.
func (m *Model) Rehearse() {
	none := make([]int32, m.Rows())
	for i := range none {
		none[i] = -1
	}
	m.ZeroGrad()
	m.Accumulate(make([]int32, m.Rows()), none, 0)
	m.dev.SquaredNorm(m.grads)
	m.Update(kernels.AdamWStep{Eps: 1, Correction1: 1, Correction2: 1})
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
