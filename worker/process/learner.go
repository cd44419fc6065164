package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"loco/kernels"
	"loco/trainer"
	"loco/trainer/data"
	"loco/trainer/model"
)

func (s *Spec) dataDir() string {
	dir, err := filepath.Abs(filepath.Join(s.dir, "data"))
	if err != nil {
		return filepath.Join(s.dir, "data")
	}
	return dir
}

// PrepareData writes the run's token shards, or finds them written.
func (s *Spec) PrepareData(ctx context.Context) (data.Set, error) {
	set, err := data.Prepare(ctx, DataOptions(s.cfg, s.dataDir()))
	if errors.Is(err, fs.ErrNotExist) {
		err = Usage(err)
	}
	return set, err
}

// Canonical is what makes the run's identity: its configuration and its data.
func (s *Spec) Canonical(set data.Set) []string {
	lines := append(s.cfg.Canonical(), dataLine(set))
	slices.Sort(lines)
	return lines
}

// RunID names the run: of its configuration and its data.
func (s *Spec) RunID(set data.Set) string { return s.cfg.RunID(dataLine(set)) }

func dataLine(set data.Set) string { return "data.digest=" + set.Digest }

// newReplicas makes the model at its seeded initial weights, one on each device.
func (s *Spec) newReplicas(compute *compute) (replicas []trainer.Replica, err error) {
	initial := s.model.Init(s.cfg.Run.Seed)
	for _, dev := range compute.devices {
		m, err := model.New(dev, s.model, s.cfg.MicroBatch())
		if err != nil {
			return nil, s.wantLess(fmt.Errorf("build the model: %w", err))
		}
		dev.Upload(m.Params(), initial)
		replicas = append(replicas, trainer.Replica{Device: dev, Model: m})
	}
	return replicas, s.rehearse(compute, replicas)
}

// newLearner gives a worker's model its batches.
func (s *Spec) newLearner(replicas []trainer.Replica, peers kernels.Peers, set data.Set, worker int) (*trainer.Llama, error) {
	c := s.cfg
	train, err := set.Train.Open()
	if err != nil {
		return nil, err
	}
	sampler, err := data.NewSampler(train, s.samplerConfig(worker))
	if err != nil {
		return nil, Usage(err)
	}
	heldout, err := s.heldout(set, c.MicroBatch())
	if err != nil {
		return nil, err
	}
	return trainer.NewLlama(replicas, peers, s.adamw(), sampler, c.Inner.Batch, heldout)
}

func (s *Spec) heldout(set data.Set, batch int) (*data.Heldout, error) {
	shard, err := set.Heldout.Open()
	if err != nil {
		return nil, err
	}
	h, err := data.NewHeldout(shard, batch, s.cfg.Model.Context, int64(s.cfg.Run.EvalTokens))
	if err != nil {
		return nil, Usage(err)
	}
	return h, nil
}
