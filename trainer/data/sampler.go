package data

import (
	"fmt"

	"loco/kernels/splitmix"
)

// Tokens is what batches are cut from; Shard is one.
type Tokens interface {
	// Len is the number of tokens.
	Len() int64
	// Read fills dst with the tokens from position at on.
	Read(dst []int32, at int64) error
}

// SamplerConfig says which batches a worker sees.
type SamplerConfig struct {
	Seed    uint64
	Worker  int // this worker's number, from 0
	Workers int // how many workers share an epoch
	Batch   int // sequences of one batch
	Context int // tokens of one sequence
}

// Sampler cuts training batches from tokens. Batch is a pure function of (seed,
// worker, step): resuming at a step costs nothing, and no worker depends on the
// progress of another.
//
// An epoch divides the tokens into windows of Context, after an offset of its own so
// that windows are cut elsewhere in every epoch, and visits them in a permutation of
// its own. Worker w takes the positions w, w + Workers, w + 2·Workers, ... of the
// permutation: within an epoch no window is seen by two workers, and every window by
// one.
//
// A worker whose number is not below Workers, one that joined a run planned for
// fewer, walks a permutation of its own over all windows. What it sees in an epoch
// overlaps with what the others see; each window is then read more often in an epoch,
// and none is left out.
type Sampler struct {
	cfg     SamplerConfig
	tokens  Tokens
	windows uint64
	row     []int32 // Context+1 tokens, scratch
	epoch   epoch
}

// epoch holds what all batches of an epoch share.
type epoch struct {
	number uint64
	offset uint64
	order  permutation
}

// NewSampler returns a sampler. It fails when a field is out of range or the tokens
// do not give every worker a window.
func NewSampler(tokens Tokens, cfg SamplerConfig) (*Sampler, error) {
	if cfg.Batch < 1 || cfg.Context < 1 || cfg.Worker < 0 || cfg.Workers < 1 {
		return nil, fmt.Errorf("data: sampler of batch = %d, context = %d, worker = %d of %d: batch, context and workers must be 1 or more, worker 0 or more", cfg.Batch, cfg.Context, cfg.Worker, cfg.Workers)
	}
	// An offset of up to Context−1 tokens, then the windows, then one more target.
	windows := tokens.Len()/int64(cfg.Context) - 1
	if windows < int64(cfg.Workers) {
		return nil, fmt.Errorf("data: %d tokens are %d windows of context = %d, fewer than the %d workers: take more text, a shorter context or fewer workers", tokens.Len(), max(windows, 0), cfg.Context, cfg.Workers)
	}
	s := &Sampler{cfg: cfg, tokens: tokens, windows: uint64(windows), row: make([]int32, cfg.Context+1)}
	s.epoch = s.epochAt(0)
	return s, nil
}

// Windows is the number of windows of an epoch.
func (s *Sampler) Windows() int64 { return int64(s.windows) }

// share is the number of windows of an epoch that this worker takes.
func (s *Sampler) share() uint64 {
	if s.cfg.Worker >= s.cfg.Workers {
		return s.windows
	}
	workers := uint64(s.cfg.Workers)
	return (s.windows + workers - 1 - uint64(s.cfg.Worker)) / workers
}

func (s *Sampler) epochAt(number uint64) epoch {
	own := uint64(0) // workers of the plan share one permutation
	if s.cfg.Worker >= s.cfg.Workers {
		own = uint64(s.cfg.Worker) + 1
	}
	return epoch{
		number: number,
		offset: splitmix.Below(hash(s.cfg.Seed, number, own, 1), uint64(s.cfg.Context)),
		order:  newPermutation(s.windows, hash(s.cfg.Seed, number, own, 2)),
	}
}

// window returns the first token of this worker's window number k, counted over
// all epochs.
func (s *Sampler) window(k uint64) int64 {
	share := s.share()
	number, position := k/share, k%share
	if number != s.epoch.number {
		s.epoch = s.epochAt(number)
	}
	if s.cfg.Worker < s.cfg.Workers {
		position = position*uint64(s.cfg.Workers) + uint64(s.cfg.Worker)
	}
	return int64(s.epoch.offset + s.epoch.order.at(position)*uint64(s.cfg.Context))
}

// Epoch is the number of the epoch, fractions included, that this worker is in
// before a step.
func (s *Sampler) Epoch(step uint64) float64 {
	return float64(step) * float64(s.cfg.Batch) / float64(s.share())
}

// Batch fills inputs and targets, each Batch·Context tokens, sequence after
// sequence; a target is the token that follows its input. It allocates nothing. It
// is not safe for concurrent use.
func (s *Sampler) Batch(step uint64, inputs, targets []int32) error {
	if n := s.cfg.Batch * s.cfg.Context; len(inputs) != n || len(targets) != n {
		panic(fmt.Sprintf("data: %d inputs and %d targets, a batch of %d times %d needs %d of each", len(inputs), len(targets), s.cfg.Batch, s.cfg.Context, n))
	}
	for b := range s.cfg.Batch {
		start := s.window(step*uint64(s.cfg.Batch) + uint64(b))
		if err := s.tokens.Read(s.row, start); err != nil {
			return err
		}
		copy(inputs[b*s.cfg.Context:], s.row[:s.cfg.Context])
		copy(targets[b*s.cfg.Context:(b+1)*s.cfg.Context], s.row[1:])
	}
	return nil
}
