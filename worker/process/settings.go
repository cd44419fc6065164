package process

import (
	"loco/checkpoint"
	"loco/gossip"
	"loco/gossip/codec"
	"loco/mesh/p2p"
	"loco/optim"
	"loco/trainer"
	"loco/trainer/data"
	"loco/trainer/model"
	"loco/worker"
	"loco/worker/config"
)

// This file says where each key of the configuration acts, one function for each package
// that takes some.

// modelConfig is the keys of [model].
func modelConfig(cfg *config.Config) model.Config {
	m := cfg.Model
	return model.Config{
		Vocab: m.Vocab, Layers: m.Layers, Width: m.Width, Heads: m.Heads, KVHeads: m.KVHeads,
		FFN: m.FFN, Context: m.Context, RopeTheta: m.RoPETheta, NormEps: m.NormEps,
		InitStd: m.InitStd, Tied: m.Tied, Checkpoint: m.Checkpointing,
	}
}

// DataOptions is the keys of [data], for a folder of shards.
func DataOptions(cfg *config.Config, dir string) data.Options {
	return data.Options{
		Source: cfg.Data.Source, Dir: dir, Heldout: cfg.Data.Heldout, MaxBytes: cfg.Data.MaxBytes,
		Tokenizer: cfg.Data.Tokenizer,
	}
}

// samplerConfig is what decides which batches a worker reads.
func (s *Spec) samplerConfig(worker int) data.SamplerConfig {
	c := s.cfg
	return data.SamplerConfig{Seed: c.Run.Seed, Worker: worker, Workers: c.Run.Workers, Batch: c.Inner.Batch, Context: c.Model.Context}
}

// adamw is the keys of [inner] that the optimizer takes.
func (s *Spec) adamw() optim.AdamW {
	in := s.cfg.Inner
	return optim.AdamW{
		LR: in.LR, Beta1: in.Beta1, Beta2: in.Beta2, Eps: in.Eps, WeightDecay: in.WeightDecay, Clip: in.Clip,
		Schedule: optim.Schedule{Kind: in.Schedule, Warmup: in.Warmup, Total: int(s.cfg.TotalSteps()), Decay: in.Decay, MinRatio: in.MinLRRatio},
		Rewarm:   s.cfg.Sync.JoinWarmup,
	}
}

// codecsOf returns what pseudo-gradients and weights cross the network in.
func codecsOf(cfg *config.Config) (delta, state codec.Codec, err error) {
	if delta, err = codec.ByName(cfg.Sync.Codec); err != nil {
		return nil, nil, Usage(err)
	}
	if state, err = codec.ByName(cfg.Sync.StateCodec); err != nil {
		return nil, nil, Usage(err)
	}
	return delta, state, nil
}

// workerConfig is the keys of [sync], and what else a worker takes.
func (s *Spec) workerConfig(number int, stopAfter uint64) worker.Config {
	c := s.cfg
	return worker.Config{
		Number: number, Workers: c.Run.Workers, Trainer: s.trainerConfig(stopAfter), Gossip: s.gossipConfig(),
		FetchMoments: c.Sync.JoinMoments == config.FetchMoments, Heartbeat: c.Mesh.Heartbeat, JoinTimeout: c.Mesh.JoinTimeout.Std(),
	}
}

func (s *Spec) trainerConfig(stopAfter uint64) trainer.Config {
	c := s.cfg
	return trainer.Config{
		Format: s.codec.Format(), StateFormat: s.stateCodec.Format(),
		Strategy: c.Sync.Strategy, Rounds: uint64(c.Run.Rounds), InnerSteps: uint64(c.Sync.InnerSteps),
		InnerTime: c.Sync.InnerTime.Std(), Options: c.Outer(), InnerLR: s.adamw().Rate,
		EvalEvery: uint64(c.Run.EvalEvery), SaveEvery: uint64(c.Checkpoint.Every), StopAfter: stopAfter,
	}
}

// deadlinesMax is how many times sync.deadline may pass while most of the others are
// alive and not ready, before the worker gives up.
const deadlinesMax = 20

func (s *Spec) gossipConfig() gossip.Config {
	c := s.cfg
	g := gossip.Config{
		Codec: s.codec, StateCodec: s.stateCodec,
		Waits: c.Sync.Waits, Deadlines: deadlinesMax, SlowCycle: c.Sync.SlowCycle, Detection: meshTimes(c.Mesh).Detection(), Seed: c.Run.Seed,
		Serving: c.Mesh.Serving, StateHold: c.Mesh.JoinTimeout.Std(),
	}
	if c.Sync.Quorum == config.Majority {
		g.Quorum = c.Run.Workers
	}
	return g
}

// meshTimes is the times of [mesh].
func meshTimes(m config.Mesh) p2p.Config {
	c := p2p.Default()
	c.Config, c.DialTimeout, c.RedialMax, c.JoinTimeout = m.Config, m.DialTimeout.Std(), m.RedialMax.Std(), m.JoinTimeout.Std()
	return c
}

// checkpointConfig is the keys of [checkpoint].
func (s *Spec) checkpointConfig(number int) checkpoint.Config {
	c := s.cfg.Checkpoint
	return checkpoint.Config{Stages: checkpoint.Local(s.checkpointDir(number), c.Tmpfs, c.Keep, c.KeepEvery)}
}
